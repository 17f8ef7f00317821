"""Synthetic images as training data for Keras 3, on TensorFlow, JAX or PyTorch alike:

    model.fit(SyntheticImages(batch=32, batches=100), epochs=10)                   # classes
    model.fit(SyntheticImages(batch=32, batches=100, target="mask"), epochs=10)    # of a generator that draws masks

Every epoch has new images. Needs: pip install keras numpy onnxruntime, and the backend of your choice.
"""

import keras
import numpy as np
from sample import HERE, Generator, _asked


class SyntheticImages(keras.utils.PyDataset):
    """Batches of (images (n, *space, channels) in [0, 1], what they are to be learned with), or of images alone.

    target: what they are to be learned with, by default the first that there is of
        "label", class indices (n,) as places in the labels of export.json;
        "mask", class indices (n, *space) as places in its mask_values, for sparse categorical cross-entropy;
        the name of a number of export.json such as "age", (n,) in its own units.
    label, at: as in sample.py: one class for all images, numbers that all are to have ({"age": 63})
    """

    def __init__(self, folder=HERE, *, batch=32, batches=100, seed=0, target=None, label=None, at=None, **options):
        super().__init__(**options)
        self.generator, self.batch, self.batches, self.seed, self.epoch = Generator(folder), batch, batches, seed, 0
        about = self.generator.about
        known = [name for name, there in (("label", "label" in about["inputs"]), ("mask", "masks" in about["outputs"]))
                 if there] + list(about["numbers"])
        if target is not None and target not in known:
            raise ValueError(f"target={target!r}: this generator's images come with {', '.join(known) or 'nothing'}")
        if label is not None and label not in about["learned"]:
            raise ValueError(f"label={label!r}: there are {', '.join(about['learned']) or 'no classes'}")
        self.target, self.label = target or next(iter(known), None), label
        self.at = _asked([f"{name}={value}" for name, value in (at or {}).items()], about["numbers"])

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        first = (self.epoch * self.batches + index) * self.batch
        items, about = range(first, first + self.batch), self.generator.about
        images, labels, masks = self.generator.images(self.seed, items, self.label, self.at)
        grey = about["intensity"]
        low, high = np.transpose(grey["ranges"] or [(grey["low"], grey["high"])]).astype("float32")  # of each channel
        images = ((np.moveaxis(images, 1, -1) - low) / (high - low)).astype("float32")
        if self.target is None:
            return images
        if self.target == "label":
            return images, labels
        if self.target == "mask":
            return images, np.searchsorted(about["mask_values"], masks)
        return images, self.generator.numbers(self.seed, items, self.at)[:, list(about["numbers"]).index(self.target)]

    def on_epoch_end(self):
        """Go on to new images."""
        self.epoch += 1

"""Synthetic images as training data for Keras 3, on TensorFlow, JAX or PyTorch alike:

    model.fit(SyntheticImages(batch=32, batches=100), epochs=10)

Every epoch has new images. Needs: pip install keras numpy onnxruntime, and the backend of your choice.
"""

import keras
import numpy as np
from sample import HERE, Generator


class SyntheticImages(keras.utils.PyDataset):
    """Batches of (images (n, *space, channels) in [0, 1], class indices (n,)), or of images alone without classes."""

    def __init__(self, folder=HERE, *, batch=32, batches=100, seed=0, **options):
        super().__init__(**options)
        self.generator, self.batch, self.batches, self.seed, self.epoch = Generator(folder), batch, batches, seed, 0

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        first = (self.epoch * self.batches + index) * self.batch
        images, labels = self.generator.images(self.seed, range(first, first + self.batch))
        intensity = self.generator.about["intensity"]
        images = (np.moveaxis(images, 1, -1) - intensity["low"]) / (intensity["high"] - intensity["low"])
        images = images.astype("float32")
        return (images, labels) if "label" in self.generator.about["inputs"] else images

    def on_epoch_end(self):
        """Go on to new images."""
        self.epoch += 1

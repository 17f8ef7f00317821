"""Makes synthetic images with NumPy and ONNX Runtime alone:  python sample.py --count 16 --seed 0 --out synthetic.npz

Image k of a seed is the same that `radsynth generate` makes, whatever the count.
Needs: pip install numpy onnxruntime
"""

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent


class Generator:
    """The generator of this folder. `images(seed, items)`: first (n, channels, *space) in the units of export.json."""

    def __init__(self, folder=HERE):
        self.about = json.loads((Path(folder) / "export.json").read_text(encoding="utf-8"))
        self.shares = json.loads((Path(folder) / "spec.json").read_text(encoding="utf-8"))["labels"]
        self.session = onnxruntime.InferenceSession(str(Path(folder) / "generator.onnx"),
                                                    providers=onnxruntime.get_available_providers())

    def labels(self, seed, items, label=None):
        """Class indices (n,): the class asked for, or drawn as often as in the training data; -1 without classes."""
        names = self.about["labels"]
        if label is not None:
            return np.full(len(items), names.index(label), np.int64)
        if len(names) < 2:
            return np.full(len(items), len(names) - 1, np.int64)
        shares = np.cumsum([self.shares[name] for name in names], dtype=np.float64)
        draws = np.stack([source.random((1,), dtype=np.float32) for source in _sources(seed, items, "label")])[:, 0]
        return np.searchsorted(shares / shares[-1], draws, side="right").clip(0, len(names) - 1)

    def numbers(self, seed, items, at=None):
        """Age, position and the like (n, k): those asked for ({"age": 63}), others drawn as in the training data."""
        lines, at = self.about["numbers"], at or {}
        draws = np.stack([s.random((len(lines),), dtype=np.float32) for s in _sources(seed, items, "condition")])
        columns = [np.full(len(items), at[name]) if name in at else _drawn(draws[:, k], line)
                   for k, (name, line) in enumerate(lines.items())]
        return np.stack(columns, axis=1).astype(np.float32)

    def images(self, seed, items, label=None, at=None):
        """Images, class indices and masks of the items (whole numbers from 0 on); each depends on (seed, item) alone.

        label: a class, by default as often as in the training data; at: numbers that all are to have, {"age": 63}
        Masks are label values (n, *space), or None where the generator draws images alone.
        """
        length = self.about["inputs"]["latent"]["shape"][1]
        latent = np.stack([s.standard_normal((length,), dtype=np.float32) for s in _sources(seed, items, "latent")])
        labels = self.labels(seed, items, label)
        feed = {"latent": latent}
        if "label" in self.about["inputs"]:
            feed["label"] = labels
        if "numbers" in self.about["inputs"]:
            feed["numbers"] = self.numbers(seed, items, at)
        images, *masks = self.session.run(None, feed)
        return images, labels, masks[0] if masks else None


def _drawn(shares, line):
    """Numbers below which such shares of the training images lie; of findings, which are 1 or 0, one of these."""
    found = np.interp(shares, np.linspace(0, 1, len(line)), line)
    between = len(set(line) - {0.0, 1.0})
    return found.round() if (line[0], line[-1]) == (0, 1) and between <= 1 else found


def _sources(seed, items, stream):
    """A source of random numbers for each item, as radsynth has them."""
    for item in items:
        yield np.random.Generator(np.random.Philox(key=(seed << 32) + zlib.crc32(stream.encode()),
                                                   counter=[0, 0, item, 0]))


def _asked(words, known):
    """The numbers asked for, as name=value each. ValueError for others than were learned, or beyond what was."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        name = name.strip()
        if name not in known:
            raise ValueError(f"--at {word}: the numbers are {', '.join(known) or 'none'}; give one as NAME=VALUE")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"--at {word}: give a name and a number, such as --at {name}={known[name][0]:g}") from None
        low, high = known[name][0], known[name][-1]
        if not low <= found[name] <= high:
            raise ValueError(f"--at {word}: training images had {low:g} to {high:g}; ask for one of these")
    return found


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", help="a class of export.json, one of 'learned'")
    parser.add_argument("--at", action="append", default=[], metavar="NAME=VALUE",
                        help="a number that all images are to have, one of 'numbers' in export.json")
    parser.add_argument("--out", default="synthetic.npz")
    given = parser.parse_args()
    generator = Generator()
    learned = generator.about["learned"]  # other classes had no training image
    if given.label is not None and given.label not in learned:
        parser.error(f"--label {given.label}: there are {', '.join(learned) or 'no classes'}")
    if given.count < 1:
        parser.error(f"--count {given.count}: ask for at least one image")
    numbers = generator.about["numbers"]
    try:
        at = _asked(given.at, numbers)
    except ValueError as error:
        parser.error(str(error))
    images, labels, masks = generator.images(given.seed, range(given.count), given.label, at)
    mark = json.dumps({"synthetic": True, "weights": generator.about["weights"], "seed": given.seed})
    more = {} if masks is None else {"masks": masks}
    more |= {"numbers": generator.numbers(given.seed, range(given.count), at)} if numbers else {}
    out = given.out if given.out.endswith(".npz") else f"{given.out}.npz"
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, images=images, labels=labels, synthetic=np.asarray(mark), **more)
    units = generator.about["outputs"]["images"]["units"]
    grey = generator.about["intensity"]
    low, high = np.transpose(grey["ranges"] or [(grey["low"], grey["high"])])  # of each channel
    values = "grey values as the source's files store them" if units == "stored" else units
    print(f"{len(images)} synthetic images were written to {out}: the array 'images' "
          f"({' x '.join(map(str, images.shape))}) holds {values} from {low.min():g} to {high.max():g}"
          + ("; 'labels' holds each one's class as its place in export.json" if generator.about["labels"] else "")
          + ("; 'masks' holds label values" if "masks" in more else "")
          + (f"; 'numbers' holds each one's {', '.join(numbers)}" if numbers else "") + ".")


if __name__ == "__main__":
    main()

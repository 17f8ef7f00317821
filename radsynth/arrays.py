"""Prepared data: what `prepare` writes once and everything after it reads: a manifest and shards of integer arrays.

DIR/manifest.json   spec, intensity map, counts, hashes; written last, so that its presence means "complete"
DIR/records.csv     one line an image: split, label, patient (salted hash), shard, row, low, high, conditions, masked,
                    spacing, added, image, drawn
DIR/shards/NNNNN.images.npy   (n, c, *space) uint8 or uint16;  NNNNN.masks.npy   (n, *space) uint8, where a mask is
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import FolderError
from radsynth.image import ImageSpec, as_tuples

SPLITS = ("train", "validation", "test")
NO_MASK = -1
"""What stands for a label value in an image that has no mask where others have one."""


@dataclass(frozen=True, kw_only=True)
class IntensityMap:
    """How real values become [-1, 1] and back: linear from [low, high], clipped outside.

    method: "window" (CT: a fixed HU window), "percentiles" (MR: low and high per volume, here their medians),
    "bits" (radiographs and pictures: the stored range).
    low, high: in the image's units (of the first channel); levels: integer steps of the stored arrays (255 or 65535)
    ranges: low and high of each channel, where several are mapped each by its own; () where all share one
    """

    method: str
    low: float
    high: float
    levels: int
    ranges: tuple[tuple[float, float], ...] = ()

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> IntensityMap:
        """The inverse of `vars`. Older folders have no ranges."""
        plain: dict[str, Any] = {key: as_tuples(value) for key, value in document.items()}
        return cls(**plain)

    def of_channels(self, count: int) -> list[IntensityMap]:
        """The map of each channel."""
        return [dataclasses.replace(self, low=low, high=high, ranges=())
                for low, high in self.ranges or ((self.low, self.high),) * count]

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest value of all channels."""
        return min((low for low, _ in self.ranges), default=self.low), max(
            (high for _, high in self.ranges), default=self.high)

    def encode(self, values: NDArray[Any], low: float | None = None, high: float | None = None) -> NDArray[Any]:
        """Real values to stored integers 0..levels. `low` and `high` override the map's for one volume."""
        low, high = self.low if low is None else low, self.high if high is None else high
        scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(self.levels / (high - low))
        dtype = np.uint8 if self.levels <= 255 else np.uint16
        stored: NDArray[Any] = np.clip(np.rint(scaled), 0, self.levels).astype(dtype)
        return stored

    def to_network(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Stored integers to [-1, 1]."""
        return stored.astype(np.float32) * np.float32(2 / self.levels) - np.float32(1)

    def decode(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Network values in [-1, 1] (clipped) to real values in the image's units."""
        unit = (np.clip(values, -1, 1) + 1) / 2
        return np.asarray(unit * (self.high - self.low) + self.low, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prepared image: `label` is an index into spec.labels or -1, `patient` a salted hash.

    conditions: the numbers that spec.conditions names, in their order, between semicolons
    masked: 0 where other images have a mask and this one has none: what is stored as its mask says nothing
    spacing: mm of its pixels along each axis of space, between semicolons, "" where the source does not tell
    added: "" for the data's own; of those that `prepare.extra` brought "synthetic" if `generate` made it, else "other"
    image: a number that the patches or the slices of one image share, -1 in a folder of an older version
    drawn: share of that image's patches that were drawn (`prepare.patches`)
    """

    split: str
    label: int
    patient: str
    shard: int
    row: int
    low: float
    high: float
    conditions: str = ""
    masked: int = 1
    spacing: str = ""
    added: str = ""
    image: int = -1
    drawn: float = 1.0


ROW_FIELDS = tuple(field.name for field in dataclasses.fields(Row))
WHOLE_NUMBERS, NUMBERS = ("label", "shard", "row", "masked", "image"), ("low", "high", "drawn")
"""Fields that are no text; a folder of an older version lacks some."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the folder holds. `source_hash` identifies the input files and the preparation settings.

    counts, patients: images and patients of each split; added: how many of those in training `prepare.extra` brought,
    {} for none; rejected: files that could not be used; duplicates: images
    whose pixels came before; left_out: slices of background at the edges of volumes
    conditions: of each of spec.conditions the quantiles over training images at equal steps, lowest to highest
    preparation: the settings sections `data` and `prepare`, without sources
    few_values: share of the images that have at most 16 whole numbers alone, as label maps have
    """

    spec: ImageSpec
    intensity: IntensityMap
    counts: dict[str, int]
    patients: dict[str, int]
    shard_size: int
    source_hash: str
    data_hash: str
    rejected: int = 0
    duplicates: int = 0
    left_out: int = 0
    added: dict[str, int] = dataclasses.field(default_factory=dict)
    conditions: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    preparation: dict[str, Any] = dataclasses.field(default_factory=dict)
    few_values: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Manifest:
        """The inverse of `to_json`."""
        spec = ImageSpec.from_json(document.pop("spec"))
        return cls(spec=spec, intensity=IntensityMap.from_json(document.pop("intensity")), **document)


class Prepared:
    """A complete prepared folder, opened for reading. Images are mapped from disk, never loaded whole."""

    def __init__(self, folder: Path) -> None:
        """Open `folder`; FolderError when it is missing, incomplete or not a prepared folder."""
        self.folder = Path(folder)
        try:
            document = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            self.manifest = Manifest.from_json(document)
            with (self.folder / "records.csv").open(encoding="utf-8", newline="") as file:
                self.rows = [
                    Row(**{**line, **{k: int(line[k]) for k in WHOLE_NUMBERS if k in line},
                           **{k: float(line[k]) for k in NUMBERS if k in line}})  # type: ignore[arg-type]
                    for line in csv.DictReader(file)
                ]
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = f"{Path(error.filename).name} is missing" if self.folder.exists() else "it does not exist"
            raise FolderError(
                f"{self.folder} is not a complete prepared folder ({missing}). "
                "Run 'radsynth prepare DATA DIR' (again): it goes on where it stopped."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise FolderError(f"{self.folder} is no readable prepared folder: {error}. Prepare it again.") from None
        if len(self.rows) != sum(self.manifest.counts.values()):
            raise FolderError(f"{self.folder}/records.csv is not the one that was written here. Prepare again.")
        self.spec, self.intensity = self.manifest.spec, self.manifest.intensity
        self._shards: dict[str, NDArray[Any]] = {}

    def indices(self, split: str, label: int | None = None) -> NDArray[np.int64]:
        """Positions of the images of one split (and one class)."""
        chosen = [i for i, r in enumerate(self.rows) if r.split == split and (label is None or r.label == label)]
        return np.asarray(chosen, dtype=np.int64)

    def own(self, *splits: str) -> NDArray[np.int64]:
        """Positions of the data's own images of these splits: without what `prepare.extra` added to the training."""
        return self._kept(splits, ("",))

    def showing(self, *splits: str) -> NDArray[np.int64]:
        """Positions of the images of these splits that may show somebody: all but added ones that `generate` made."""
        return self._kept(splits, ("", "other"))

    def _kept(self, splits: tuple[str, ...], kinds: tuple[str, ...]) -> NDArray[np.int64]:
        if self.manifest.added and not any(row.added for row in self.rows):
            raise FolderError(f"{self.folder} was prepared by an older version, which did not keep the images that "
                              "prepare.extra added apart from real ones. Prepare the same data again into a new folder "
                              "and put it in this one's place: runs that learned from it know it by its content.")
        found = np.concatenate([self.indices(split) for split in splits])
        return np.asarray([i for i in found if self.rows[int(i)].added in kinds], dtype=np.int64)

    def training_labels(self) -> dict[str, int]:
        """How many training images each class has."""
        return {name: len(self.indices("train", label)) for label, name in enumerate(self.spec.labels)}

    def patients(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) each image's patient, numbered as they come among all images: hashes differ with each preparation."""
        numbers: dict[str, int] = {}
        every = [numbers.setdefault(row.patient, len(numbers)) for row in self.rows]
        return np.asarray(every, dtype=np.int64)[indices]

    def masked(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) whether each image has a mask, in data that has masks."""
        return np.asarray([bool(self.rows[int(i)].masked) for i in indices], dtype=bool)

    def spacings(self, indices: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """(n, dimensions) mm of each image's pixels, the common one where its own is not kept; None without."""
        if self.spec.spacing is None:
            return None
        own = [self.rows[int(i)].spacing for i in indices]
        return np.asarray([[float(step) for step in one.split(";")] if one else self.spec.spacing for one in own]
                          ).reshape(len(own), -1)

    def _shard(self, name: str) -> NDArray[Any]:
        if name not in self._shards:
            path = self.folder / "shards" / name
            try:
                self._shards[name] = mapped(path)
            except (OSError, ValueError) as error:
                raise FolderError(f"{path} is damaged or missing: {error}. Delete {self.folder} and prepare the data "
                                  "again, as 'radsynth run' does by itself: a training goes on with it.") from None
        return self._shards[name]

    def stored(self, indices: NDArray[np.int64], kind: str = "images") -> NDArray[Any]:
        """Stored integers: (n, c, *space) for "images", (n, *space) for "masks"."""
        rows = [self.rows[int(i)] for i in indices]
        return np.stack([self._shard(f"{r.shard:05d}.{kind}.npy")[r.row] for r in rows])

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Network values (n, c, *space) in [-1, 1]."""
        return self.intensity.to_network(self.stored(indices))

    def masks(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Label values (n, *space), NO_MASK at every pixel of an image that has no mask."""
        found = np.full((len(indices), *self.spec.size), NO_MASK, dtype=np.int64)
        masked = self.masked(indices)
        if masked.any():
            found[masked] = self.stored(indices[masked], "masks")
        return found

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class indices (n,), -1 where unlabelled."""
        return np.asarray([self.rows[int(i)].label for i in indices], dtype=np.int64)

    def conditions(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The numbers that images are learned with (n, k), scaled to [-1, 1] over the training images."""
        found = [[float(number) for number in self.rows[int(i)].conditions.split(";") if number] for i in indices]
        return scaled(np.asarray(found).reshape(len(indices), -1), self.manifest.conditions)


def mapped(path: Path) -> NDArray[Any]:
    """The array of an npy file, mapped from disk. OSError or ValueError for a file that cannot be read.

    The file does not stay open, as it does behind numpy's own maps: a process may have 256 or 1,024 open at most, and
    thousands of volumes make as many shards.
    """
    import torch

    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    try:
        content = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8).numpy()
    except RuntimeError as error:
        raise OSError(str(error)) from None
    content.setflags(write=False)
    return np.frombuffer(content, dtype, math.prod(shape), start).reshape(shape, order="F" if by_columns else "C")


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the numbers 0 to count - 1, evenly: neighbours are of one patient."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def scaled(values: NDArray[np.float64], quantiles: dict[str, list[float]]) -> NDArray[np.float32]:
    """Numbers (n, k) as networks see them: the lowest of the training images is -1, the highest 1."""
    low, high = (np.array([line[end] for line in quantiles.values()]) for end in (0, -1))
    return np.asarray(2 * (values - low) / np.where(high > low, high - low, 1) - 1, dtype=np.float32)


class PreparedWithMasks(Prepared):
    """The same folder for a task that draws images with masks: each label is a channel, 1 where it is, else -1."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.spec = self.spec.with_masks()

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Network values (n, c + labels, *space) in [-1, 1]."""
        masks = self.stored(indices, "masks")
        labels = np.stack([masks == value for value in self.spec.label_values], axis=1)
        return np.concatenate([super().images(indices), 2 * labels.astype(np.float32) - 1], axis=1)

"""Puts images onto a fixed one by a trained registration: warped images, labels and displacement fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.datasets import Record, Rejected
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.io import read_mask
from radsynth.losses.alignment import local_correlation
from radsynth.metrics._registration import folding
from radsynth.progress import track
from radsynth.settings import read_yaml
from radsynth.tasks._warp import warp
from radsynth.tasks.register import Register
from radsynth.verbs._applying.applier import (
    AXES,
    COARSE,
    PERCENTILES,
    SPACING_TOLERANCE,
    as_stored,
    cut,
    join,
    ranges_of,
)
from radsynth.verbs._applying.tiles import convert_tiled
from radsynth.verbs._preparing.fit import Fit, resample
from radsynth.verbs.generate import Sampler

Array = NDArray[np.float32]
Row = dict[str, object]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placing:
    """Where a pixel of the fixed image lies in the moving one before any warp, in pixels: matrix @ index + offset."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Warped:
    """A moving image on the grid of the fixed one.

    displacement: (d, *space) pixels of the fixed image; placing: what follows it, to pixels of the moving image
    labels: (*space), None when the moving image has none; found: numbers about the registration
    """

    image: Image
    labels: NDArray[np.uint8] | None
    displacement: Array
    placing: Placing
    found: dict[str, float]


class Registrar:
    """A trained registration and the fixed image that everything is put onto."""

    def __init__(self, run: Path, fixed: Image, name: str) -> None:
        """RejectedFile for a fixed image that the run was not trained for. name: of the fixed image, for messages."""
        sampler = Sampler(run)
        self.run = Path(run)
        self.task, self.network, self.spec = cast(Register, sampler.task), sampler.network, sampler.spec
        self.intensity, self.facts, self.device = sampler.intensity, sampler.facts, sampler.device
        settings = read_yaml(Path(run) / "settings.yaml")
        data = settings.get("data") or {}
        self.plane, self.modality = str(data.get("plane", "auto")), str(data.get("modality", ""))
        low, high = (settings.get("prepare") or {}).get("percentiles", PERCENTILES)
        self.percentiles = (float(low), float(high))
        self.image, self.name = fixed, name
        self._check(fixed)
        self.axis = self._slices()
        self.fit = self._working_grid()
        self._seen = self._network_values(fixed, _channels(fixed, self.task.fixed), fixed)

    def _check(self, image: Image) -> None:
        if "OT" not in (self.spec.modality, image.modality) and image.modality != self.spec.modality:
            raise RejectedFile(f"its modality is {image.modality}; the run was trained on {self.spec.modality}")
        if len(image.space) < self.spec.dimensions:
            raise RejectedFile("it is a single image; the run was trained on volumes")

    def _slices(self) -> int | None:
        """The axis across which volumes are registered slice by slice by a network of slices; None: as a whole."""
        if len(self.image.space) == self.spec.dimensions:
            return None
        steps = self.image.spacing
        if self.plane in AXES:
            return AXES[self.plane]
        return int(np.argmax(steps)) if steps and max(steps) >= COARSE * min(steps) else 0

    def _working_grid(self) -> Fit:
        """The fixed image's field of view in pixels of the size that the network knows."""
        space, have = self.image.space, self.image.spacing
        ratios = [1.0] * len(space)
        if self.spec.spacing is not None and have is not None:
            axes = [axis for axis in range(len(space)) if axis != self.axis]
            for axis, want in zip(axes, self.spec.spacing, strict=True):
                ratio = want / have[axis]
                ratios[axis] = 1.0 if abs(ratio - 1) <= SPACING_TOLERANCE else ratio
        content = tuple(max(1, round(side / ratio)) for side, ratio in zip(space, ratios, strict=True))
        return Fit(source=space, target=content, ratios=tuple(ratios), content=content, spacing=have or (1.0,))

    def _network_values(self, image: Image, channels: NDArray[Any], on: Image, placing: Placing | None = None) -> Array:
        """Channels (c, *space) on the working grid, in network values: each mapped by its own image's range."""
        ranges = ranges_of(channels, self.intensity, self.percentiles)
        values = channels if placing is None else sampled(channels, placing, on.space)
        fitted = resample(values, self.fit)
        encoded = [self.intensity.to_network(self.intensity.encode(channel, *limits))
                   for channel, limits in zip(fitted, ranges.tolist(), strict=True)]
        return np.stack(encoded)

    def convert(self, moving: Image, name: str, labels: NDArray[np.uint8] | None) -> Warped:
        """The moving image and its labels (*space) warped; RejectedFile for one that does not fit."""
        self._check(moving)
        if len(moving.space) != len(self.image.space):
            raise RejectedFile(f"it has {len(moving.space)} dimensions, {self.name} has {len(self.image.space)}")
        channels = _channels(moving, self.task.moving)
        placing, seen = self._placed(moving, channels, name)
        start, goal = (torch.from_numpy(np.ascontiguousarray(cut(values, self.axis)))
                       for values in (seen, self._seen))
        found = self.task.displacement(self._velocity, start.to(self.device), goal.to(self.device)).cpu()
        same = self.task.moving == self.task.fixed
        numbers = {"similarity_before": float(local_correlation(start, goal).mean()) if same else float("nan"),
                   "similarity": float(local_correlation(warp(start, found), goal).mean()) if same else float("nan")}
        displacement = self._on_fixed(found.numpy())
        numbers["folding"] = float(folding(displacement[None])[0])
        pixels = sampled(moving.pixels, placing, self.image.space, displacement)
        image = self.image.replace(pixels=as_stored(pixels, moving), modality=moving.modality, units=moving.units,
                                   bits=moving.bits, channels=moving.channels, mask=None)
        carried = None
        if labels is not None:
            carried = sampled(labels[None], placing, self.image.space, displacement, order=0)[0].astype(np.uint8)
        return Warped(image=image, labels=carried, displacement=displacement, placing=placing, found=numbers)

    def _velocity(self, pair: torch.Tensor) -> torch.Tensor:
        made = convert_tiled(lambda part: self.network(part), self.network, pair)
        return torch.from_numpy(made).to(self.device)

    def _placed(self, moving: Image, channels: NDArray[Any], name: str) -> tuple[Placing, Array]:
        """Of the ways to lay the images on each other the one under which they agree best."""
        tried = [(one, self._network_values(moving, channels, self.image, one))
                 for one in placings(moving, self.image, name, self.name)]
        return max(tried, key=lambda pair: _agreement(pair[1], self._seen))

    def _on_fixed(self, found: Array) -> Array:
        """(n, d, *space) on the working grid, or slice by slice, as (axes of the fixed image, *its space)."""
        if self.axis is None:
            field = found[0]
        else:
            within = join(found, self.axis)
            if self.axis > 0:
                within[0] *= -1  # coronal and sagittal slices are turned head up, see `cut`
            field = np.insert(within, self.axis, 0, axis=0)
        if self.fit.is_identity:
            return np.ascontiguousarray(field, np.float32)
        ratios = np.asarray(self.fit.ratios)
        matrix = np.diag(1 / ratios)
        middle = (np.asarray(self.fit.source) - 1) / 2
        offset = (np.asarray(self.fit.content) - 1) / 2 - middle / ratios
        fine = sampled(field, Placing(matrix=matrix, offset=offset), self.image.space, edge=True)
        return np.asarray(fine * ratios.reshape(-1, *[1] * len(ratios)), np.float32)


def _channels(image: Image, names: tuple[str, ...]) -> NDArray[Any]:
    """The channels (c, *space) that the network sees; RejectedFile when they are not there."""
    have = image.channels
    if set(names) <= set(have):
        return image.pixels[[have.index(name) for name in names]]
    if not set(names) & set(have) and len(have) == len(names):
        return image.pixels  # channels of other names are taken in their order
    raise RejectedFile(f"its channels are {', '.join(have)}; the run expects {', '.join(names)}")


def _agreement(one: Array, other: Array) -> float:
    """How strongly two images (c, *space) depend on each other: the absolute correlation of their channels' means."""
    first, second = one.mean(0).ravel(), other.mean(0).ravel()
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(abs(np.corrcoef(first, second)[0, 1]))


def placings(moving: Image, fixed: Image, moving_name: str, fixed_name: str) -> list[Placing]:
    """The ways to lay a moving image on a fixed one by their headers: by their positions, and middle on middle.

    Positions of different patients mean little, those of one patient a lot. RejectedFile, with both names, when nothing
    is known of the pixels' size and the images differ in size.
    """
    dimensions = len(fixed.space)
    middles = [(np.asarray(image.space) - 1) / 2 for image in (moving, fixed)]
    if moving.affine is not None and fixed.affine is not None:
        both = np.linalg.inv(moving.affine) @ fixed.affine  # index to index, (column, row, slice, 1)
        matrix, offset = both[:dimensions, :dimensions][::-1, ::-1], both[:dimensions, 3][::-1]
        return [Placing(matrix=matrix, offset=offset),
                Placing(matrix=matrix, offset=middles[0] - matrix @ middles[1])]
    if moving.spacing is not None and fixed.spacing is not None:
        matrix = np.diag(np.asarray(fixed.spacing) / np.asarray(moving.spacing))
        return [Placing(matrix=matrix, offset=middles[0] - matrix @ middles[1])]
    if moving.space != fixed.space:
        sizes = [" x ".join(map(str, image.space)) for image in (moving, fixed)]
        raise RejectedFile(
            f"{moving_name} has {sizes[0]} pixels and {fixed_name} {sizes[1]}, and the headers do not say how large a "
            "pixel is: give images of one size, or files that say it")
    return [Placing(matrix=np.eye(dimensions), offset=np.zeros(dimensions))]


def sampled(pixels: NDArray[Any], placing: Placing, space: tuple[int, ...], displacement: Array | None = None, *,
            order: int = 1, edge: bool = False) -> Array:
    """(c, *space of the fixed image): pixels (c, *own space) where the fixed image's pixels lie, after a displacement.

    Linear between pixels, or the nearest one's value for order 0. Outside lies the lowest value, or with `edge` the
    border's.
    """
    from scipy.ndimage import map_coordinates

    places = np.indices(space, dtype=np.float32)
    if displacement is not None:
        places += displacement
    flat = placing.matrix.astype(np.float32) @ places.reshape(len(space), -1)
    there = (flat + placing.offset.astype(np.float32)[:, None]).reshape(len(space), *space)
    lowest = 0.0 if order == 0 else float(pixels.min())
    return np.stack([map_coordinates(channel, there, order=order, mode="nearest" if edge else "constant", cval=lowest,
                                     output=np.float32, prefilter=False) for channel in pixels])


def put_onto(run: Path, fixed: Record, records: Iterator[Record], rejected: list[Rejected], folder: Path,
             format: str | None, labels: Path | None, write: Callable[..., list[Path]]) -> Iterator[Row]:
    """Register and write image by image; yields rows of samples.csv. write: as `apply._write`."""
    try:
        registrar = Registrar(run, fixed.load(), fixed.source)
    except RejectedFile as error:
        raise DataError(f"{fixed.source}, which images are to be put onto, cannot be used: {error}.") from None
    index = 0
    for record in track(list(records), None, "registering", "images"):
        try:
            moving = record.load()
            warped = registrar.convert(moving, record.source, _labels(labels, record, moving))
        except RejectedFile as error:
            rejected.append(Rejected(path=record.source, reason=str(error)))
            continue
        chosen = format or (fixed.header.format if fixed.header else registrar.spec.format)
        field = folder / "fields" / f"{index:06d}.nii.gz"
        write_field(field, warped.displacement, warped.placing, moving, registrar.image)
        more = {"field": field.relative_to(folder).as_posix(), "labels": ""}
        if warped.labels is not None:
            path = folder / "labels" / f"{index:06d}.nii.gz"
            write_labels(path, warped.labels, registrar.image)
            more["labels"] = path.relative_to(folder).as_posix()
        for file in write(registrar, moving, warped.image, folder / "images", index, chosen):
            yield {"file": file.relative_to(folder).as_posix(), "index": index, "source": record.source, **more,
                   **{name: f"{value:.4g}" if np.isfinite(value) else "" for name, value in warped.found.items()},
                   "flagged": _flags(warped.found)}
        index += 1


def _flags(found: dict[str, float]) -> str:
    """What speaks against a registration: images that agree less than before, or a warp that folds space."""
    worse = found["similarity"] < found["similarity_before"]
    return " ".join(name for name, doubtful in (("similarity", worse), ("folding", found["folding"] > 0)) if doubtful)


def _labels(path: Path | None, record: Record, moving: Image) -> NDArray[np.uint8] | None:
    """Label values (*space) of a moving image: beside it, or the file `path`, or in the folder `path` by its name."""
    if path is None:
        return moving.mask
    file = path / Path(record.files[0]).name if path.is_dir() and record.files else path
    if not file.is_file():
        raise RejectedFile(f"its labels are not in {path}: there is no file {file.name}")
    try:
        mask = read_mask(file)
    except RejectedFile as error:
        raise RejectedFile(f"its labels {file.name}: {error}") from None
    if mask.space != moving.space:
        raise RejectedFile(f"its labels {file.name} have the size {mask.space}, the image {moving.space}")
    return np.asarray(mask.pixels[0], np.uint8)


def one_image(records: Iterator[Record], path: Path, rejected: list[Rejected]) -> Record:
    """The only image behind a path; SettingsError for more, DataError for none."""
    found = list(records)
    if not found:
        reasons = [r.reason for r in rejected if not r.skipped]
        raise DataError(f"{path}, which images are to be put onto, holds no image that can be used"
                        f"{': ' + reasons[0] if reasons else ''}.")
    if len(found) > 1:
        raise SettingsError(f"--onto {path} holds {len(found)} images: name the one that the others are put onto.")
    return found[0]


def write_labels(path: Path, labels: NDArray[np.uint8], fixed: Image) -> None:
    """Label values (*space) as NIfTI on the grid of the fixed image."""
    _write_nifti(path, labels if labels.ndim == 3 else labels[None], fixed, "radsynth: labels warped, derived")


def write_field(path: Path, displacement: Array, placing: Placing, moving: Image, fixed: Image) -> None:
    """A displacement (d, *space) in pixels as a NIfTI vector image (x, y, z, 1, 3) that ITK and ANTs read.

    Vectors are in mm towards left, back and head (LPS), from the fixed image's places to the moving one's; in pixels
    (column, row, slice) where the size of a pixel is not known. Where only one image has a place, the moving one is
    taken to lie where it was put.
    """
    places = np.indices(fixed.space, dtype=np.float32)
    here = _positions(places, _affine(fixed))
    if moving.affine is None or fixed.affine is None:
        there = _positions(places + displacement, _affine(fixed))
    else:
        flat = placing.matrix @ (places + displacement).reshape(len(places), -1) + placing.offset[:, None]
        there = _positions(flat.reshape(places.shape), moving.affine)
    vectors = np.asarray(there - here, np.float32)
    vectors = vectors[:, None] if vectors.ndim == 3 else vectors
    _write_nifti(path, vectors.transpose(3, 2, 1, 0)[:, :, :, None, :], fixed,
                 "radsynth: displacement, LPS mm, derived", vectors=True)


def _positions(places: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Indices (d, *space), (slice,) row, column, as positions (3, *space) in LPS mm."""
    flat = places[::-1].reshape(len(places), -1)
    positions = affine[:3, :len(places)] @ flat + affine[:3, 3:]
    return np.asarray(positions.reshape(3, *places.shape[1:]))


def _affine(fixed: Image) -> NDArray[np.float64]:
    """(column, row, slice, 1) to LPS mm; without a place the first pixel is at 0, without spacing pixels are 1 mm."""
    if fixed.affine is not None:
        return fixed.affine
    steps = (fixed.spacing or (1.0,) * len(fixed.space))[::-1]
    return np.diag([*steps, *(1.0,) * (4 - len(steps))])


def _write_nifti(path: Path, values: NDArray[Any], fixed: Image, description: str, vectors: bool = False) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    nifti = nibabel.Nifti1Image(values if vectors else values.transpose(2, 1, 0), lps_to_ras @ _affine(fixed))
    nifti.header["descrip"] = description.encode()
    nifti.header.set_xyzt_units("mm")
    if vectors:
        nifti.header.set_intent("vector")
    temporary = path.with_name(f".{path.name.removesuffix('.nii.gz')}.part.nii.gz")
    nibabel.save(nifti, temporary)
    temporary.replace(path)

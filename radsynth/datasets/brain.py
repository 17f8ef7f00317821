"""The embedded virtual cohort: made-up patients derived from the MNI152 MR template, with their ground truth.

Nobody in it exists: every patient is the template under a random smooth invertible warp, with a drawn skull and scalp,
its own contrast, bias field and noise (Rician, Gudbjartsson 1995). All of a patient follows from (seed, index) alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from radsynth.datasets import Record, Rejected
from radsynth.datasets._brain_anatomy import CENTRE, Array, atlas, generator, patient
from radsynth.datasets._brain_signal import Contrast, bias, lesion_share, looks, signals, tissue_shares
from radsynth.errors import SettingsError
from radsynth.image import GREY, Image
from radsynth.io import Header
from radsynth.settings import settings

Plane = Literal["axial", "coronal", "sagittal"]

LABELS = ("healthy", "lesion")
TISSUES = ("background", "cerebrospinal fluid", "grey matter", "white matter", "lesion")
"""Names of the mask's values 0 to 4."""

VIRTUAL = True
"""The source is a virtual cohort, never patients; it travels as `ImageSpec.virtual`."""

MODALITY, BITS = "MR", 12
FIELD_OF_VIEW = 224.0
"""mm that the smaller side of an image covers: a head and a rim of air."""

LEVELS: dict[Plane, tuple[float, float]] = {"axial": (-4.0, 54.0), "coronal": (-30.0, 58.0), "sagittal": (-44.0, 44.0)}
"""mm along the plane's normal between which the slices lie: the part of the head that is rich in brain."""


@settings
class Settings:
    """The embedded brain cohort: virtual patients, not real ones."""

    kind: Literal["brain"] = "brain"
    patients: Annotated[int, Field(ge=1, le=9999)] = 400
    """Virtual patients."""
    slices: Annotated[int, Field(ge=1, le=64)] = 10
    """Slices of each patient, spread evenly over the part of the head that is rich in brain; not used for volumes."""
    size: Annotated[tuple[Annotated[int, Field(ge=8, le=512)], ...], Field(min_length=2, max_length=3)] = (64, 64)
    """Rows and columns of a slice; three numbers (slices, rows, columns) make one whole volume of each patient."""
    plane: Plane = "axial"
    """Plane of the slices: axial, coronal or sagittal; not used for volumes."""
    contrasts: Annotated[tuple[Contrast, ...], Field(min_length=1, max_length=3)] = ("t1",)
    """Channels of each image, taken of the same anatomy: t1, t2, flair."""
    unpaired: bool = False
    """Each patient has only one of the contrasts, in turn, whose name is the class; for tasks without pairs."""
    rare: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Share of the patients that have a lesion."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another number gives another cohort."""
    conditions: tuple[Literal["position"], ...] = ()
    """Learn slices with their position, in mm along the normal of the plane, so that it can be asked for."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is true of one image, on its grid.

    clean: (contrasts, *space) signals without bias field and noise, relative (0 air to about 1)
    mask: (*space) the tissue with the largest share, see TISSUES; shares: (5, *space), its sum is 1
    displacement: (3, *space) mm (z, y, x): a pixel at p shows the template at p + displacement
    """

    clean: Array
    mask: NDArray[np.uint8]
    shares: Array
    displacement: Array


def matches(path: Path) -> bool:
    """Never: the cohort is not on the disk; it is asked for by its name."""
    return False


def example(folder: Path) -> Settings:
    """Three small patients; nothing is written, because the cohort needs no files."""
    return Settings(patients=3, slices=2, size=(32, 32), rare=0.34)


def records(settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    """Patients in order, each one's slices from foot to head, front to back or right to left. None is ever rejected."""
    if len(set(settings.contrasts)) < len(settings.contrasts):
        raise SettingsError(f"data.contrasts={list(settings.contrasts)} names one twice; give each only once.")
    if settings.unpaired and len(settings.contrasts) < 2:
        raise SettingsError("data.unpaired needs at least two data.contrasts, such as [t1,flair].")
    whole = len(settings.size) == 3
    if whole and settings.conditions:
        raise SettingsError("data.conditions=[position] is a slice's; whole volumes have none.")
    channels = 1 if settings.unpaired else len(settings.contrasts)
    usual = "nifti" if whole else "dicom" if channels == 1 else "npz"
    header = Header(
        format=usual,
        size=settings.size,
        channels=channels,
        modality=MODALITY,
        bits=BITS,
        spacing=(_pixel(settings),) * len(settings.size),
    )
    for index in range(settings.patients):
        name = f"virtual-{index + 1:04d}"
        for number in range(1 if whole else settings.slices):
            yield Record(
                source=f"{name}/{number:02d}",
                patient=name,
                label=label(settings, index, number),
                conditions={name: position(settings, index, number) for name in settings.conditions},
                load=partial(image, settings, index, number),
                header=header,
                mask_names=dict(enumerate(TISSUES)),
            )


def is_rare(settings: Settings, index: int) -> bool:
    """Does this patient have a lesion? Golden-ratio steps keep the share in every stretch of the cohort."""
    start = generator(settings.seed, 0, "rare").random()
    return bool((start + (index + 1) * 0.6180339887498949) % 1 < settings.rare)


def label(settings: Settings, index: int, number: int = 0) -> str:
    """The class of one image: "lesion" when the mask of the image holds some of it; of unpaired ones the contrast."""
    if settings.unpaired:
        return settings.contrasts[index % len(settings.contrasts)]
    if not is_rare(settings, index):
        return LABELS[0]
    return LABELS[int((_lesion(settings, index, _points(settings, index, number)) > 0.5).any())]


def position(settings: Settings, index: int, number: int) -> float:
    """mm along the plane's normal at which a slice lies, from the middle of the template outwards."""
    normal, *_ = _directions(settings)
    return float(_corner(settings, index, number)[int(np.argmax(np.abs(normal)))])


def image(settings: Settings, index: int, number: int = 0) -> Image:
    """One slice (c, rows, columns) or volume (c, slices, rows, columns): unsigned 12-bit signals and tissue mask."""
    if settings.unpaired:
        place = index % len(settings.contrasts)
        own = replace(settings, contrasts=settings.contrasts[place:place + 1], unpaired=False)
        return image(own, index, number).replace(channels=GREY)
    found = truth(settings, index, number)
    rng = generator(settings.seed, index, "scan")
    gain, spread = rng.uniform(1100, 2100), np.float32(rng.uniform(0.008, 0.03))
    field = bias(_points(settings, index, number), rng).reshape(found.mask.shape)
    grid = settings.plane if found.mask.ndim == 2 else "volume"
    noise = generator(settings.seed, index, f"noise {grid} {number}")
    error = noise.standard_normal((2, *found.clean.shape), dtype=np.float32) * spread
    signal = np.hypot(found.clean * field + error[0], error[1])  # the magnitude of a complex signal: Rician
    pixels = np.clip(np.rint(signal * gain), 0, 2**BITS - 1).astype(np.uint16)
    return Image(
        pixels=pixels,
        modality=MODALITY,
        bits=BITS,
        spacing=(_pixel(settings),) * found.mask.ndim,
        mask=found.mask,
        affine=_affine(settings, index, number),
        channels=settings.contrasts,
    )


def truth(settings: Settings, index: int, number: int = 0) -> Truth:
    """The ground truth of one image: clean signals, tissues, and the deformation that made it."""
    points = _points(settings, index, number)
    there = patient(settings.seed, index, is_rare(settings, index)).to_template(points)
    maps = atlas(_pixel(settings)).sample(there)
    look = looks(generator(settings.seed, index, "looks"))
    shares = tissue_shares(maps, _lesion(settings, index, points), look)
    clean = [
        signals(contrast, shares, maps, there, look, _pixel(settings), generator(settings.seed, index, contrast))
        for contrast in settings.contrasts
    ]
    space = settings.size
    return Truth(
        clean=np.stack(clean).reshape(-1, *space),
        mask=_largest(shares).reshape(space),
        shares=shares.reshape(-1, *space),
        displacement=(there - points).T.reshape(3, *space),
    )


def _largest(shares: Array) -> NDArray[np.uint8]:
    """(n,) tissue values. A lesion counts from half a pixel on, so that a label and its mask agree."""
    return np.where(shares[4] > 0.5, 4, np.argmax(shares[:4], axis=0)).astype(np.uint8)


def _lesion(settings: Settings, index: int, points: Array) -> Array:
    lesions = patient(settings.seed, index, is_rare(settings, index)).lesions
    return lesion_share(lesions, points, generator(settings.seed, index, "border"))


def _pixel(settings: Settings) -> float:
    """mm between pixels, the same along every axis: the field of view over the in-plane size's smaller number."""
    return FIELD_OF_VIEW / min(settings.size[-2:])


def _directions(settings: Settings) -> tuple[NDArray[np.float64], ...]:
    """Steps in mm, (z, y, x), along (normal, rows, columns) of the image grid: head or front up, left to the right."""
    axes: dict[Plane, tuple[tuple[int, int], ...]] = {
        "axial": ((0, 1), (1, 1), (2, 1)),
        "coronal": ((1, 1), (0, -1), (2, 1)),
        "sagittal": ((2, 1), (0, -1), (1, 1)),
    }
    chosen = axes["axial" if len(settings.size) == 3 else settings.plane]
    return tuple(np.eye(3)[axis] * sign * _pixel(settings) for axis, sign in chosen)


def _corner(settings: Settings, index: int, number: int) -> NDArray[np.float64]:
    """Position (z, y, x) in mm of an image's first pixel. A patient's slices share a random offset."""
    normal, *_ = steps = _directions(settings)
    if len(settings.size) == 3:
        return np.asarray(CENTRE - sum((n - 1) / 2 * step for n, step in zip(settings.size, steps, strict=True)))
    low, high = LEVELS[settings.plane]
    offset = generator(settings.seed, index, f"offset {settings.plane}").random()
    level = low + (high - low) * (number + offset) / settings.slices
    axis = int(np.argmax(np.abs(normal)))
    corner = CENTRE - sum((n - 1) / 2 * step for n, step in zip(settings.size, steps[1:], strict=True))
    corner[axis] = level
    return np.asarray(corner)


def _points(settings: Settings, index: int, number: int) -> Array:
    """Positions (n, 3), (z, y, x) in mm, of an image's pixels, the last axis fastest."""
    steps = _directions(settings)[-len(settings.size) :]
    grid = np.indices(settings.size).reshape(len(settings.size), -1).T
    return np.asarray(_corner(settings, index, number) + grid @ np.stack(steps), dtype=np.float32)


def _affine(settings: Settings, index: int, number: int) -> NDArray[np.float64]:
    """4x4, (column, row, slice, 1) to LPS mm (x, y, z)."""
    affine = np.eye(4)
    for column, step in enumerate(reversed(_directions(settings))):
        affine[:3, column] = step[::-1]
    affine[:3, 3] = _corner(settings, index, number)[::-1]
    return affine

"""The one image object at the edges (files in, files out) and the specification that networks are built from.

Axes are always (channel, *space): space is (rows, columns) in 2-D and (slices, rows, columns) in 3-D. Patient
coordinates are DICOM's, in mm: x to the patient's left, y to the back, z to the head (LPS).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GREY = ("grey",)
RGB = ("red", "green", "blue")
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
"""What red, green and blue are to the eye (ITU-R BT.709)."""

COLOURLESS = 0.02
"""Share of an image's highest value by which its colours may differ and still be grey: JPEG rounds them apart."""


Layout = tuple[tuple[int, int, int], tuple[bool, bool, bool]]
"""Which axis of its file an image's columns, rows and slices run along, and whether they run the other way."""


Kind = tuple[str, str]
"""The modality and the units of a channel, as in `Image`."""


def common_kind(kinds: Iterable[Kind]) -> Kind:
    """What channels have in common: OT where their modalities differ, "stored" where their units do."""
    modalities, units = (set(each) for each in zip(*kinds, strict=True))
    return (modalities.pop() if len(modalities) == 1 else "OT", units.pop() if len(units) == 1 else "stored")


def modalities_of(kinds: Iterable[Kind]) -> str:
    """Their modalities in words: CT and PT."""
    return " and ".join(dict.fromkeys(modality for modality, _ in kinds))


def may_be_hounsfield(bits: int) -> bool:
    """Whether values of so many bits can be Hounsfield units: not 8 bits, for which somebody chose a window before."""
    return bits > 8


def bits_of(dtype: np.dtype[Any]) -> int:
    """Bits of `Image.bits` for values that are stored as such numbers: 8, 16, or 32 for fractions and longer ones."""
    return 32 if dtype.kind == "f" or dtype.itemsize > 2 else 8 * dtype.itemsize


def as_tuples(value: Any) -> Any:
    """What JSON gives back of tuples, which it knows as lists, as tuples again."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """One image or volume with its meaning.

    pixels: (c, *space), real values in `units`, as the source stores them after its own rescaling
    modality: DICOM's code: CT, MR, CR, DX, US, ...; OT when unknown
    units: "HU" (CT), "stored" (the file's own numbers)
    bits: bits that the source's stored values take: 8, 12, 16 or 32 (floating point)
    spacing: mm between pixel centres along each axis of space, None when unknown
    affine: 4x4, voxel index (column, row, slice, 1) -> LPS mm, None when unknown; its steps agree with `spacing`
    mask: (*space) label values, 0 is background; None when there is none
    channels: a name for each channel
    window: (low, high) in `units` that the source asks a viewer to show first, None when it does not
    laid: how the file's own axes lie, so that what is made of the image can lie likewise; None: unknown, or as ours
    frame: DICOM's identifier of the frame of reference that `affine` is in, for what is made of the image at its own
    place; "" when unknown
    thickness: mm of anatomy that each slice of its file shows, not the step from slice to slice where these overlap or
    leave gaps; None when unknown
    lossy: by which ratios its pixels were once compressed with loss, () where that is not said; None: they were not, or
    nobody knows
    regridded: its mask, or one of its channels, lay on another grid in its file
    filled: around what it shows its file had NaN, which is read as background
    flat: its NIfTI file has two axes, where others have a third one of a single slice
    """

    pixels: NDArray[Any]
    modality: str = "OT"
    units: str = "stored"
    bits: int = 8
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    mask: NDArray[np.uint8] | None = None
    channels: tuple[str, ...] = GREY
    window: tuple[float, float] | None = None
    laid: Layout | None = None
    frame: str = ""
    thickness: float | None = None
    lossy: tuple[float, ...] | None = None
    regridded: bool = False
    filled: bool = False
    flat: bool = False

    def __post_init__(self) -> None:
        assert self.pixels.ndim in (3, 4), f"pixels must be (c, *space), got shape {self.pixels.shape}"
        assert len(self.channels) == self.pixels.shape[0], f"{self.channels}: {self.pixels.shape[0]} channels"
        assert self.spacing is None or len(self.spacing) == len(self.space)
        assert self.mask is None or self.mask.shape == self.space

    @property
    def space(self) -> tuple[int, ...]:
        """Size without the channels: (rows, columns) or (slices, rows, columns)."""
        return tuple(self.pixels.shape[1:])

    @property
    def through(self) -> int:
        """The axis of a volume (slices 0, rows 1, columns 2) across which the slices of its own file were taken."""
        return 0 if self.laid is None else 2 - self.laid[0].index(2)

    @property
    def grey_in_colour(self) -> bool:
        """Stored as red, green and blue, which are equal at every pixel: a grey image that was saved as colour."""
        if self.channels != RGB:
            return False
        apart = np.ptp(self.pixels.astype(np.float32), axis=0).max()
        return bool(apart <= COLOURLESS * self.pixels.max())

    def replace(self, **changes: Any) -> Image:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def grey(self) -> Image:
        """The luminance of three channels as the single channel, whole numbers where these are; others as they are."""
        if len(self.pixels) != 3:
            return self
        luminance = np.einsum("i,i...->...", LUMINANCE, self.pixels.astype(np.float32))[None]
        whole = self.pixels.dtype.kind != "f"  # floating point often spans 0 to 1 alone
        return self.replace(pixels=(np.rint(luminance) if whole else luminance).astype(self.pixels.dtype),
                            channels=GREY)

    def for_channels(self, channels: tuple[str, ...]) -> Image:
        """Grey where grey is wanted and it shows grey, though it is stored as colour; else as it is."""
        return self.grey() if channels == GREY and self.grey_in_colour else self


def all_grey_in_colour(images: Iterable[Image]) -> bool:
    """Whether some images are stored as colour, and all of these show grey."""
    shown = [image.grey_in_colour for image in images if image.channels == RGB]
    return bool(shown) and all(shown)


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What a network must know of the images, and what a writer must know to write them back.

    channels: names; size: (rows, columns) or (slices, rows, columns); labels: class names, () when unlabelled
    conditions: names of the numbers that images are learned with (age, position, ...)
    mask_classes: label values in the masks including background, 0 without masks
    mask_values: those that occur, in order; () when nobody looked, and all up to `mask_classes` may
    mask_names: what the label values mean, a name for each of `label_values`; () when nobody says
    partly_masked: some of the images have no mask
    spacing, modality, units, bits: as in `Image`; format: the input's, a module of `io`
    virtual: the source is a virtual cohort, not patients
    directions: unit vectors of the steps along column, row and slice in LPS (nine numbers), None when they differ
    window: (low, high) in `units` that the sources ask a viewer to show first (their median); of CT that asks for none
        the usual one of what it shows; else None
    values: (low, high) in `units` that -1 and 1 of prepared images stand for (of MR a median), None in older folders
    laid: as in `Image`, None when it differs; flat: all are so, as in `Image`
    kinds: modality and units of each channel where they differ, as of CT beside PET; else ()
    """

    channels: tuple[str, ...] = GREY
    size: tuple[int, ...]
    labels: tuple[str, ...] = ()
    mask_classes: int = 0
    mask_values: tuple[int, ...] = ()
    spacing: tuple[float, ...] | None = None
    modality: str = "OT"
    units: str = "stored"
    bits: int = 8
    format: str = "picture"
    virtual: bool = False
    directions: tuple[float, ...] | None = None
    window: tuple[float, ...] | None = None
    conditions: tuple[str, ...] = ()
    values: tuple[float, ...] | None = None
    partly_masked: bool = False
    mask_names: tuple[str, ...] = ()
    laid: Layout | None = None
    flat: bool = False
    kinds: tuple[Kind, ...] = ()

    def kind_of(self, channels: Iterable[str]) -> Kind:
        """The modality and units that some of the channels have in common."""
        if not self.kinds:
            return self.modality, self.units
        return common_kind(self.kinds[self.channels.index(name)] for name in channels)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def label_values(self) -> tuple[int, ...]:
        """The masks' label values in order, the background first; () without masks."""
        return self.mask_values or tuple(range(self.mask_classes))

    def label_name(self, value: int) -> str:
        """What a label value of the masks means, or "label 3"."""
        names = dict(zip(self.label_values, self.mask_names, strict=False))
        return names.get(value, f"label {value}")

    def label_names(self) -> dict[int, str]:
        """What the label values of the masks mean, without the background."""
        return {value: self.label_name(value) for value in self.label_values if value}

    def with_masks(self) -> ImageSpec:
        """Images with a further channel for each label value of their masks."""
        labels = (f"label {value}" for value in self.label_values)
        return dataclasses.replace(self, channels=(*self.channels, *labels))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ImageSpec:
        """The inverse of `to_json`."""
        plain: dict[str, Any] = {key: as_tuples(value) for key, value in document.items()}
        return cls(**plain)

    def __str__(self) -> str:
        return json.dumps(self.to_json())

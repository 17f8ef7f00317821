"""File formats. Each module is one format and offers, and only this:

SUFFIXES: tuple[str, ...]                        file endings, lower case, the usual one first
sniff(path, head: bytes) -> bool                 is this file of this format? `head` is its first 512 bytes
header(path) -> Header                           what can be known without decoding pixels
read(path, frame: int = 0) -> Image              one of the header's `frames` images
write(image: Image, path, *, provenance: Provenance) -> list[Path]
                                                 the files written, each marked as synthetic in the format's own way,
                                                 each under a temporary name first
example(folder) -> list[Path]                    writes small valid files for the contract test
read_mask(path) -> Image                         only where a mask's label values are not what `read` gives (palettes)
write_labels(labels, path, *, provenance, names, of) -> list[Path]
                                                 only where label maps are files of another kind than images; see
                                                 `write_labels` below
SCANS = True                                     its files are scans that do not name their patients, as NIfTI's: a
                                                 folder of few is a patient. Without it they count as pictures

`header` and `read` raise RejectedFile with the reason for a file that cannot be used, MissingExtra when an optional
dependency would read it; what writes raises CannotHold for an image that the format has no room for. Files are not
trusted: sizes are checked against `_limits` before anything is allocated, and pixels that need a decoder other than
Python's own or numpy's come from the limited child (`_decoding.decode`).

Axes, spacing and orientation are settled here and nowhere else: a volume leaves `read` with axes (slice, row, column)
that step towards the head, the back and the left as far as its own grid allows.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from radsynth._rounding import rounded
from radsynth.errors import MissingExtra, RejectedFile, SettingsError
from radsynth.image import Image, Kind, modalities_of

HIGHEST_LABEL = 255
"""Label values of masks go from 0, the background, to this."""

SAME = 0.01
"""Spacings that differ by no more than this share are the same."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself, without decoding pixels. Meanings as in `radsynth.image.Image`.

    format: the module's name; size: `Image.space` of what `read` returns; channels: their number
    kinds: modality and units of each channel where they differ (CT beside PET), else ()
    frames: how many images (or volumes) the file holds
    patient, series: the patient and the kind of scan as the file names them, None when it does not; for `inspect` and
    for keeping patients apart, they never travel further
    notes: what is odd but no reason to reject
    age: the patient's, in years, None when the file does not say
    burned_in: text with a patient's name may be drawn into the pixels; localizer: it was made to plan others (a scout)
    beside: further files that hold its pixels, as x.raw does beside x.mhd
    """

    format: str
    size: tuple[int, ...]
    channels: int = 1
    modality: str = "OT"
    units: str = "stored"
    bits: int = 8
    spacing: tuple[float, ...] | None = None
    frames: int = 1
    patient: str | None = None
    series: str | None = None
    notes: tuple[str, ...] = ()
    burned_in: bool = False
    localizer: bool = False
    age: float | None = None
    beside: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()

    @property
    def modalities(self) -> str:
        """The modality, or those of the channels where they differ: "CT and PT"."""
        return modalities_of(self.kinds) or self.modality

    @classmethod
    def of(cls, image: Image, format: str) -> Header:
        """What a file of the image would say, for an image that no file tells of; format: what it counts as."""
        return cls(format=format, size=image.space, channels=len(image.channels), modality=image.modality,
                   units=image.units, bits=image.bits, spacing=image.spacing)

    def on_grid_of(self, other: Header) -> bool:
        """Whether both have one size, and spacings that differ by `SAME` at most; not where one tells none."""
        mine, theirs = self.spacing or (), other.spacing or ()
        return self.size == other.size and 0 < len(mine) == len(theirs) and all(
            abs(a - b) <= SAME * b for a, b in zip(mine, theirs, strict=True))


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a synthetic image comes from: written into every file.

    model: the network's kind; weights: SHA-256 of its weights, "" when there are none (a virtual cohort)
    seed, index: the image's own random numbers come from these two alone
    description: one human-readable sentence, "" for the usual one
    window: (low, high) in the image's units that a viewer should show first; None: from the pixels
    span: (low, high) that every image of the same set lies in, None where nobody knows: formats without units and
        slope store all by it, so that they can be compared
    body_part: DICOM's Body Part Examined
    source: SHA-256 of the pixels of the image that it was derived from, "" for an image from noise
    """

    model: str
    weights: str
    seed: int
    index: int
    description: str = ""
    window: tuple[float, float] | None = None
    span: tuple[float, float] | None = None
    body_part: str = "UNKNOWN"
    source: str = ""


class NotAnImage(RejectedFile):
    """A file of a known format that holds no picture (a report, a plan, a segmentation): skipped and counted."""


class Format(Protocol):
    """What a module of this folder offers."""

    SUFFIXES: tuple[str, ...]

    def sniff(self, path: Path, head: bytes) -> bool:
        """Is this file of this format?"""

    def header(self, path: Path) -> Header:
        """What can be known without decoding pixels."""

    def read(self, path: Path, frame: int = 0) -> Image:
        """One of the images in the file."""

    def write(self, image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
        """Write one image or volume, marked as synthetic."""

    def example(self, folder: Path) -> list[Path]:
        """Small valid files."""


@functools.cache
def formats() -> tuple[str, ...]:
    """Every format: the modules of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def scans() -> tuple[str, ...]:
    """The formats whose files are scans that do not name their patients."""
    return tuple(name for name in formats() if getattr(format_module(name), "SCANS", False))


def pictures() -> tuple[str, ...]:
    """The formats whose files tell little but their pixels: all but those of scans and DICOM."""
    return tuple(name for name in formats() if name not in ("dicom", *scans()))


def format_module(name: str) -> Format:
    """The module of one format; SettingsError that names them all for an unknown one."""
    if name not in formats():
        meant = [one for one in formats() if f".{name}" in format_module(one).SUFFIXES]
        hint = f" (did you mean {meant[0]}?)" if meant else ""
        raise SettingsError(f"there is no format '{name}'{hint}; the formats are {', '.join(formats())}")
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


FOREIGN = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"RIFF": "a WebP or other RIFF file",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file",
    b"MATLAB": "a MATLAB file",
    b"<!DOC": "a web page",
    b"<html": "a web page",
    b"\x00\x00\x00\x0cjP": "a bare JPEG 2000",
}
ADVICE = dict.fromkeys((b"GIF8", b"BM", b"RIFF", b"\x00\x00\x00\x0cjP"), "save it as PNG or TIFF") | dict.fromkeys(
    (b"\x89HDF", b"MATLAB"), "save the images in it (of fastMRI the reconstructions) as npy, npz or NIfTI")
"""What to do with those that may hold images."""

ANALYZE = ("it is Analyze 7.5 (or NIfTI without its mark), which does not say which side is left: once you know, save "
           "it as NIfTI (fslchfiletype of FSL, nibabel)")
SIZE_OF_HEADER = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")
"""How Analyze and NIfTI-1 begin: with 348."""

APPLE_DOUBLE = b"\x00\x05\x16\x07"
"""How the files begin that macOS puts beside others on foreign disks and in zip files: ._scan.png beside scan.png."""

BARE = ("it is DICOM without the head of a file (the letters DICM behind 128 bytes), as some archives have it: dcmconv "
        "of dcmtk, or gdcmconv, writes it with one")

PARTED = (".mhd", ".nhdr", ".nrrd", ".hdr", ".hdr.gz")
"""Endings of files whose pixels may lie in another one."""


def detect(path: Path) -> str:
    """The format of a file by its content. NotAnImage when neither content nor ending is an image's.

    RejectedFile when the ending promises an image that the content is not, or when the file cannot be opened.
    """
    path = Path(path)
    try:
        if not path.is_file():
            if not (path.exists() or path.is_symlink()):
                raise RejectedFile("there is no file of this name")
            raise RejectedFile("it is not a regular file (a broken link, a pipe or a device)")
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise RejectedFile(f"it cannot be opened: {error.strerror}") from None
    if path.name.startswith("._") and head.startswith(APPLE_DOUBLE):
        raise NotAnImage("it is what macOS keeps about another file (AppleDouble)")
    for name in formats():
        if format_module(name).sniff(path, head):
            return name
    if _is_bare_dicom(head):
        raise RejectedFile(BARE)
    promised = next((n for n in formats() if path.name.lower().endswith(format_module(n).SUFFIXES)), None)
    foreign = next((start for start in FOREIGN if head.startswith(start)), b"")
    if promised is None and head.startswith(SIZE_OF_HEADER) and path.name.lower().endswith(".hdr"):
        raise NotAnImage(ANALYZE)
    if promised is None and foreign in ADVICE and (foreign != b"BM" or not any(head[6:10])):  # a text may begin with BM
        raise NotAnImage(f"it is {FOREIGN[foreign]}, of which nothing is read: {ADVICE[foreign]}")
    if promised is None:
        raise NotAnImage("it is of no format that radsynth reads")
    if not head:
        raise RejectedFile("the file is empty (0 bytes)")
    real = FOREIGN.get(foreign, f"no {promised} file")
    raise RejectedFile(f"its name ends in {path.suffix or path.name}, but its content is {real}")


def _is_bare_dicom(head: bytes) -> bool:
    """Whether a file begins with two elements of DICOM's group 0008 (little endian), the first data that a file has."""
    vr = head[4:6].isalpha()
    second = 8 + int.from_bytes(head[6:8] if vr else head[4:8], "little")
    return head[:2] == head[second:second + 2] == b"\x08\0" and head[3:4] == head[second + 3:second + 4] == b"\0"


def header(path: Path) -> Header:
    """What a file says of itself, without decoding pixels."""
    return format_module(detect(path)).header(Path(path))


def beside(path: Path) -> tuple[str, ...]:
    """The files beside one that hold its pixels, as x.raw does beside x.mhd; () for a file that has or says none."""
    if not str(path).lower().endswith(PARTED):
        return ()
    try:
        return header(Path(path)).beside
    except (RejectedFile, MissingExtra):
        return ()


def read(path: Path | str) -> Image | list[Image]:
    """The image in a file; a list when it holds several frames, or when `path` is a folder of DICOM slices.

    A folder gives one volume for each series (one image for a slice alone). RejectedFile when a file cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        from radsynth.io._dicom_series import read_folder

        return read_folder(path)
    module = format_module(detect(path))
    frames = module.header(path).frames
    images = [module.read(path, frame) for frame in range(frames)]
    return images[0] if frames == 1 else images


def read_mask(path: Path) -> Image:
    """A mask file: label values (1, *space) uint8, 0 is background; RejectedFile unless whole numbers to 255."""
    module = format_module(detect(path))
    special = getattr(module, "read_mask", None)
    if special is not None:
        return cast(Image, special(path))
    return as_mask(module.read(path))


def as_mask(mask: Image) -> Image:
    """An image of label values as `read_mask` gives it, with the same RejectedFile."""
    values = mask.pixels
    if len(values) != 1:
        raise RejectedFile(f"as a mask it must have one channel, not {len(values)}")
    check_labels(values)
    return mask.replace(pixels=values.astype(np.uint8), bits=8)


def check_labels(values: NDArray[Any]) -> None:
    """RejectedFile for values of a mask that are no labels."""
    broken = values[values != np.rint(values)]
    if broken.size or values.min() < 0 or values.max() > HIGHEST_LABEL:
        found = (f"fractions such as {rounded(broken[0])}" if broken.size else
                 f"{rounded(values.min())} to {rounded(values.max())}")
        things = "" if broken.size or values.min() < 0 else (
            f". If they number things, number those of each image from 1: up to {HIGHEST_LABEL} are read "
            "(prepare.masks=instances)")
        raise RejectedFile(f"as a mask it must hold whole numbers from 0 to {HIGHEST_LABEL}, not {found}{things}")


def write(image: Image, path: Path | str, *, provenance: Provenance, format: str | None = None) -> list[Path]:
    """Write one image, marked as synthetic; `format` follows from the path's ending if not given. Returns the files."""
    path = Path(path)
    if format is None:
        name = path.name.lower()
        format = next((n for n in formats() if name.endswith(format_module(n).SUFFIXES)), "")
        if not format:
            endings = ", ".join(suffix for n in formats() for suffix in format_module(n).SUFFIXES)
            raise SettingsError(f"{path.name}: no format ends like this; the endings are {endings}")
    return format_module(format).write(image, path, provenance=provenance)


def write_labels(labels: Image, path: Path, *, provenance: Provenance, format: str, names: Mapping[int, str],
                 of: Sequence[Path] = ()) -> list[Path]:
    """Write a label map (1, *space), marked as synthetic. Returns the files.

    names: of all label values but 0, for formats that can say them; of: the files that the same provenance made of the
    image that it belongs to
    """
    module = format_module(format)
    special = getattr(module, "write_labels", None)
    if special is None:
        return module.write(labels, path, provenance=provenance)
    return cast(list[Path], special(labels, path, provenance=provenance, names=names, of=of))

"""PNG, JPEG and TIFF, grey or RGB, 8 or 16 bits (TIFF also floating point and stacks of pages, which are volumes).

Transparency, palettes, CMYK and 16-bit colour PNG are rejected: each has more than one reading. Masks may use palettes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps
from PIL.PngImagePlugin import PngInfo

from radsynth.errors import DataError, RejectedFile
from radsynth.image import GREY, RGB, Image
from radsynth.io import Header, Provenance
from radsynth.io._limits import check_file, check_size, unusable
from radsynth.io._synthetic import KEY, Marked, mark, parse_mark, sentence, store, write_whole

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 0x0112

GREY_MODES = {"L": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}
REFUSED = {
    "1": "it has one bit a pixel: such a picture is read as a mask only",
    "P": "it has a palette: its numbers are names of colours. Save it as grey or RGB",
    "PA": "it has a palette and transparency. Save it as grey or RGB",
    "LA": "it has a transparency channel. Save it without one",
    "RGBA": "it has a transparency channel. Save it without one",
    "CMYK": "its colours are for printing (CMYK). Save it as RGB",
}


def sniff(path: Path, head: bytes) -> bool:
    """The content begins as PNG, JPEG or TIFF do."""
    return head.startswith(PNG) or head.startswith(JPEG) or head[:4] in TIFF


def header(path: Path) -> Header:
    """Size, depth and channels; spacing and modality only where radsynth wrote the file."""
    return _tiff_header(path) if _is_tiff(path) else _pillow_header(path)


def read(path: Path, frame: int = 0) -> Image:
    """Pixels as stored, (1 or 3, rows, columns) or (1 or 3, pages, rows, columns)."""
    assert frame == 0
    if _is_tiff(path):
        pixels, marked, bits = _tiff_pixels(path)
    else:
        pixels, marked, bits = _pillow_pixels(path)
    if marked is None:
        return Image(pixels=pixels, bits=bits, channels=GREY if len(pixels) == 1 else RGB)
    return Image(
        pixels=marked.real(pixels),
        modality=marked.modality,
        units=marked.units,
        bits=marked.bits,
        spacing=marked.spacing if len(marked.spacing or ()) == pixels.ndim - 1 else None,
        affine=marked.affine,
        channels=marked.channels if len(marked.channels) == len(pixels) else (GREY if len(pixels) == 1 else RGB),
    )


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Label values (*space): numbers or palette indices as stored; a mask of 0 and 255 alone, or a JPEG, is 0 and 1."""
    if _is_tiff(path):
        values = _tiff_pixels(path)[0][0]
    else:
        with _opened(path) as picture:
            _check_picture(picture)
            kind, grey = picture.format, picture.mode in ("1", "L", "P", *GREY_MODES)
            try:
                values = np.asarray(picture if grey else picture.convert("RGB"))
            except Exception as error:
                raise unusable(error, "the mask") from None
        if not grey:
            if (values != values[..., :1]).any():
                raise RejectedFile("the mask has colours: it must hold one label number a pixel")
            values = values[..., 0]
        if kind == "JPEG":
            values = values > 127
    if values.dtype != bool and set(np.unique(values).tolist()) <= {0, 255}:
        values = values > 0
    if values.min() < 0 or values.max() > 255 or not np.array_equal(values, np.rint(values)):
        raise RejectedFile(
            f"the mask holds values from {values.min()} to {values.max()}: whole numbers 0 to 255 are labels"
        )
    return np.asarray(values, dtype=np.uint8)


def write(image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
    """PNG with text entries, or TIFF (one page a slice) with an image description, by the path's ending.

    DataError for a volume or 16-bit colour as PNG, and for JPEG, which would change the values.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending in (".tif", ".tiff"):
        return _write_tiff(image, path, provenance)
    if ending != ".png":
        raise DataError(f"{path.name}: pictures are written as .png or .tiff (JPEG would change the values)")
    stored = store(image)
    if image.pixels.ndim != 3 or (len(image.pixels) > 1 and stored.bits > 8):
        raise DataError(f"{path.name}: PNG holds single images, grey or 8-bit RGB. Choose TIFF, NIfTI, DICOM or NPZ")
    if len(image.pixels) not in (1, 3):
        raise DataError(f"{path.name}: PNG holds one or three channels, not {len(image.pixels)}. Choose NPZ")
    text = PngInfo()
    for key, value in (
        ("Synthetic", "yes"),
        ("Software", "radsynth"),
        ("Description", sentence(provenance)),
        (KEY, mark(image, provenance, stored)),
    ):
        text.add_text(key, value)
    values = stored.values[0] if len(stored.values) == 1 else np.moveaxis(stored.values, 0, -1)
    picture = Pillow.fromarray(np.ascontiguousarray(values))
    return write_whole(path, lambda temporary: picture.save(temporary, format="PNG", pnginfo=text))


def example(folder: Path) -> list[Path]:
    """An 8-bit PNG, a 16-bit PNG, an RGB PNG, a JPEG and a TIFF stack, as other programs write them."""
    import tifffile

    ramp = np.arange(20 * 24).reshape(20, 24)
    pictures = {
        "grey.png": Pillow.fromarray((ramp % 256).astype(np.uint8)),
        "deep.png": Pillow.fromarray((ramp * 100).astype(np.uint16)),
        "colour.png": Pillow.fromarray(np.stack([ramp % 256, ramp % 7, ramp % 100], axis=-1).astype(np.uint8)),
        "grey.jpg": Pillow.fromarray((ramp % 256).astype(np.uint8)),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    tifffile.imwrite(
        folder / "stack.tiff", np.stack([ramp, ramp + 1, ramp + 2]).astype(np.uint16), photometric="minisblack"
    )
    return [*(folder / name for name in pictures), folder / "stack.tiff"]


def _is_tiff(path: Path) -> bool:
    check_file(path)
    with open(path, "rb") as file:
        return file.read(4) in TIFF


def _opened(path: Path) -> Pillow.Image:
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            return Pillow.open(path, formats=("PNG", "JPEG", "TIFF"))
    except Pillow.DecompressionBombError:
        raise RejectedFile("its header says more pixels than the limit: it may be a decompression bomb") from None
    except Pillow.UnidentifiedImageError:
        raise RejectedFile("its header is damaged: no PNG, JPEG or TIFF could be opened") from None
    except Exception as error:
        raise unusable(error, "the picture") from None


def _check_picture(picture: Pillow.Image) -> None:
    check_size((picture.height, picture.width), channels=len(picture.getbands()), itemsize=4)


def _check_readable(picture: Pillow.Image, path: Path) -> None:
    """RejectedFile for every picture whose numbers would not survive."""
    _check_picture(picture)
    if picture.mode in REFUSED:
        raise RejectedFile(REFUSED[picture.mode])
    if picture.mode != "RGB" and picture.mode not in GREY_MODES:
        raise RejectedFile(f"its pixels are of Pillow's mode {picture.mode}; grey and RGB are read")
    if "transparency" in picture.info:
        raise RejectedFile("it marks one value as transparent. Save it without transparency")
    if picture.format == "PNG" and picture.mode == "RGB" and _png_depth(path) == 16:
        raise RejectedFile("it is a 16-bit colour PNG, of which only 8 bits would be read. Save it as TIFF")


def _png_depth(path: Path) -> int:
    with open(path, "rb") as file:
        return file.read(25)[24]


def _pillow_header(path: Path) -> Header:
    with _opened(path) as picture:
        _check_readable(picture, path)
        size = (picture.height, picture.width)
        if picture.format == "JPEG" and picture.getexif().get(ORIENTATION, 1) >= 5:
            size = size[::-1]
        marked = parse_mark(picture.info.get(KEY))
        return _as_header(size, 3 if picture.mode == "RGB" else 1, GREY_MODES.get(picture.mode, 8), marked)


def _as_header(size: tuple[int, ...], channels: int, bits: int, marked: Marked | None) -> Header:
    if marked is None:
        return Header(format="picture", size=size, channels=channels, bits=bits)
    return Header(
        format="picture",
        size=size,
        channels=channels,
        bits=marked.bits,
        modality=marked.modality,
        units=marked.units,
        spacing=marked.spacing if len(marked.spacing or ()) == len(size) else None,
        notes=("synthetic, made by radsynth",),
    )


def _pillow_pixels(path: Path) -> tuple[NDArray[Any], Marked | None, int]:
    with _opened(path) as picture:
        _check_readable(picture, path)
        bits, marked = GREY_MODES.get(picture.mode, 8), parse_mark(picture.info.get(KEY))
        try:
            if picture.format == "JPEG":
                picture = ImageOps.exif_transpose(picture)
            values = np.array(picture)
        except Exception as error:
            raise unusable(error, "the picture") from None
    return (values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)), marked, bits


def _tiff_header(path: Path) -> Header:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            size, channels, dtype, _ = _tiff_layout(file)
            description = file.pages.first.description
    except Exception as error:
        raise unusable(error, "the TIFF") from None
    return _as_header(size, channels, _tiff_bits(dtype), parse_mark(description))


def _tiff_layout(file: Any) -> tuple[tuple[int, ...], int, np.dtype[Any], bool]:
    """(size, channels, dtype, white is zero) of the only series of a TIFF, checked against the limits."""
    page = file.pages.first
    check_size((page.imagelength, page.imagewidth), channels=page.samplesperpixel, itemsize=8)
    series = file.series[0]
    axes, shape = series.axes, tuple(series.shape)
    if len(file.series) > 1:
        raise RejectedFile(
            f"its {len(file.series)} groups of pages differ in size or kind; one image or one stack is read"
        )
    channels = shape[-1] if axes.endswith("S") else 1
    size = shape[:-1] if axes.endswith("S") else shape
    if len(axes.removesuffix("S")) not in (2, 3) or "YX" not in axes or channels not in (1, 3) or axes[0] == "S":
        raise RejectedFile(f"its axes are {axes} with sizes {shape}; (pages,) rows, columns (, 3 colours) are read")
    if page.photometric.name not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR") or page.extrasamples:
        raise RejectedFile(f"its colours are {page.photometric.name} or it has transparency; grey and RGB are read")
    if series.dtype is None or series.dtype.kind not in "uif" or page.bitspersample not in (8, 16, 32, 64):
        raise RejectedFile(f"its pixels are {page.bitspersample}-bit {series.dtype}; 8, 16 and 32 bits are read")
    check_size(size, channels=channels, itemsize=series.dtype.itemsize)
    return size, channels, series.dtype, page.photometric.name == "MINISWHITE"


def _tiff_bits(dtype: np.dtype[Any]) -> int:
    return 8 if dtype.itemsize == 1 else 16 if dtype.itemsize == 2 and dtype.kind != "f" else 32


def _tiff_pixels(path: Path) -> tuple[NDArray[Any], Marked | None, int]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            size, channels, dtype, white_is_zero = _tiff_layout(file)
            marked = parse_mark(file.pages.first.description)
            values = _tiff_values(file, path).reshape(*size, channels)
    except Exception as error:
        raise unusable(error, "the TIFF") from None
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise RejectedFile("it holds values that are not finite numbers (NaN or infinity)")
        values = values.astype(np.float32)
    if white_is_zero:
        values = np.iinfo(values.dtype).max - values if values.dtype.kind == "u" else -values
    return np.moveaxis(values, -1, 0), marked, _tiff_bits(dtype)


def _tiff_values(file: Any, path: Path) -> NDArray[Any]:
    """All pages. Pillow decodes what tifffile needs a further library for (LZW, JPEG)."""
    if file.pages.first.compression.name in ("NONE", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS"):
        return np.asarray(file.series[0].asarray(maxworkers=1))
    with _opened(path) as picture:
        pages = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            _check_readable(picture, path)
            pages.append(np.array(picture))
    return np.stack(pages)


def _write_tiff(image: Image, path: Path, provenance: Provenance) -> list[Path]:
    import tifffile

    if len(image.pixels) not in (1, 3):
        raise DataError(f"{path.name}: TIFF is written with one or three channels, not {len(image.pixels)}. Choose NPZ")
    stored = store(image, floats=True)
    values = stored.values[0] if len(stored.values) == 1 else np.moveaxis(stored.values, 0, -1)
    colours = "minisblack" if len(stored.values) == 1 else "rgb"
    text = mark(image, provenance, stored)
    return write_whole(
        path,
        lambda temporary: tifffile.imwrite(
            temporary,
            np.ascontiguousarray(values),
            photometric=colours,
            description=text,
            metadata=None,
            software="radsynth",
            compression="zlib",
        ),
    )

"""Contact sheets: images in rows and columns with their scale beside them, one grey scale for all, marked synthetic."""

from __future__ import annotations

import functools
import io
import logging
import math
import textwrap
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap
from radsynth.files import write_atomically
from radsynth.image import ImageSpec
from radsynth.progress import tell
from radsynth.verbs._grid import black_and_white, display, in_colour, shown_window

CELL = 96
"""Pixels that an image has on the sheet at least: it is enlarged by a whole factor."""
WIDEST = 2 * CELL
"""Pixels to which several channels side by side are enlarged at most, or sheets would be too wide to be read."""
GAP, NOTE = 4, 18
"""Pixels between images, and for a line of text below them."""
DPI = 100
NARROWEST = 480
"""Pixels that a sheet is wide at least, for its title."""
MARK = "Synthetic images made by radsynth, not acquired from a patient."


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How the images of a run are shown. words: size, spacing, what of an image is shown, and grey scale for a
    caption; ends: network values of black and white; colour: as in `display`.
    """

    words: str
    ends: tuple[float, float]
    colour: bool = True

    @classmethod
    def of(cls, spec: ImageSpec, intensity: IntensityMap) -> Shown:
        """CT in its window, others over their whole range."""
        size, window, colour = " x ".join(map(str, spec.size)), shown_window(spec), in_colour(spec.channels)
        steps = [f"{step:.3g}" for step in spec.spacing or ()]
        steps = steps if len(set(steps)) > 1 else steps[:1]
        pixels = f"{size} pixels" + (f" of {' x '.join(steps)} mm" if steps else "")
        pixels += "; of each volume the middle slice" if spec.dimensions == 3 else ""
        pixels += f"; channels side by side: {', '.join(spec.channels)}" if spec.channels[1:] and not colour else ""
        scale = "Grey scale: the whole range" if window is None else f"Black: {window[0]:g} HU, white: {window[1]:g} HU"
        return cls(words=f"{pixels}. {scale}", ends=black_and_white(window, intensity), colour=colour)


def enlarge(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, rows, columns[, 3]) enlarged by a whole factor to at least `CELL` pixels, by cubic interpolation."""
    from PIL import Image as Picture

    rows, columns = pictures.shape[1:3]
    most = math.ceil(CELL / min(rows, columns))
    factor = max(1, most if columns < 2 * rows else min(most, WIDEST // columns))
    size = (pictures.shape[2] * factor, pictures.shape[1] * factor)
    return np.stack([np.asarray(Picture.fromarray(one).resize(size, Picture.Resampling.BICUBIC)) for one in pictures])


def save_sheet(rows: Sequence[NDArray[np.float32]], path: Path, shown: Shown, *, title: str,
               row_names: Sequence[str], column_names: Sequence[str], caption: str,
               notes: Sequence[Sequence[str]] | None = None) -> None:
    """Write rows of images, each (columns, c, *space) in [-1, 1] as one PNG.

    notes: a short text below each image, row by row
    """
    pictures = [display(row, shown.ends, colour=shown.colour) for row in rows]
    save_pictures(pictures, path, title=title, row_names=row_names, column_names=column_names, caption=caption,
                  notes=notes)


def save_pictures(rows: Sequence[NDArray[np.uint8]], path: Path, *, title: str, row_names: Sequence[str],
                  column_names: Sequence[str], caption: str, notes: Sequence[Sequence[str]] | None = None,
                  mark: str = MARK) -> None:
    """As `save_sheet`, of pictures (columns, height, width[, 3]); grey and colour may be mixed."""
    import matplotlib
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it complains of fonts without bold letters
    large = [enlarge(row) for row in rows]
    colour = any(row.ndim == 4 for row in large)
    large = [np.repeat(row[..., None], 3, -1) if colour and row.ndim == 3 else row for row in large]
    high, wide = large[0].shape[1:3]
    down, across = high + GAP + (NOTE if notes else 0), wide + GAP
    sheet = np.full((down * len(large), across * len(column_names), *large[0].shape[3:]), 255, np.uint8)
    for r, row in enumerate(large):
        for c, picture in enumerate(row):
            sheet[r * down:r * down + high, c * across:c * across + wide] = picture
    left = 20 + 7 * max((_letters(line) for name in row_names for line in name.split("\n")), default=0)
    width = max(left + sheet.shape[1] + 12, NARROWEST)
    below, above = _wrapped(f"{caption}\n{mark}", width), _wrapped(title, int(0.6 * width))  # of larger letters
    heads = [_wrapped(name, int(0.75 * across), least=8) for name in column_names]  # of larger letters
    lines = max((len(head.split("\n")) for head in heads), default=0)
    top, bottom = 58 + 13 * max(0, lines - 2) + 18 * above.count("\n"), 16 + 12 * len(below.split("\n"))
    height = top + sheet.shape[0] + bottom
    families = _families("".join([above, below, *row_names, *heads]))
    with matplotlib.rc_context({"text.parse_math": False,  # dollar signs in the names of classes are no formulas
                                "font.family": families}):
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        axes = figure.add_axes((left / width, bottom / height, sheet.shape[1] / width, sheet.shape[0] / height))
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
        axes.set_xticks([c * across + wide / 2 for c in range(len(heads))], heads, fontsize=8)
        axes.set_yticks([r * down + high / 2 for r in range(len(large))], list(row_names), fontsize=8)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        for r, line in enumerate(notes or []):
            for c, text in enumerate(line):
                axes.text(c * across + wide / 2, r * down + high + 2, text, fontsize=7, ha="center", va="top")
        figure.text(0.01, 1 - 6 / height, above, fontsize=10, weight="bold", va="top")
        figure.text(0.01, 4 / height, below, fontsize=7, va="bottom", color="#444444")
        write_atomically(path, _png(figure, title, mark))


def _png(figure: Any, title: str, mark: str) -> bytes:
    """The figure without transparency, which many viewers show as black, and with the mark in its header."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image as Picture
    from PIL.PngImagePlugin import PngInfo

    canvas: Any = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # told by `_others`
        canvas.draw()
    told, buffer = PngInfo(), io.BytesIO()
    told.add_text("Title", title)
    told.add_text("Description", mark)
    Picture.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, format="PNG", pnginfo=told)
    return buffer.getvalue()


def _wrapped(text: str, width: int, least: int = 30) -> str:
    fit = max(least, int(width / 5.4))
    return "\n".join(part for line in text.split("\n") if line
                     for part in textwrap.wrap(line, max(1, fit * len(line) // _letters(line))))


def _letters(text: str) -> int:
    """How many Latin letters it is as wide as: Chinese, Japanese and Korean ones count twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _families(text: str) -> list[str]:
    """Matplotlib's own font, and installed ones for letters that it lacks: names of classes may be Chinese."""
    from matplotlib import font_manager

    own = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return ["DejaVu Sans", *_others(frozenset(ord(letter) for letter in text if not letter.isspace()).difference(own))]


@functools.cache
def _others(missing: frozenset[int]) -> list[str]:
    """Installed fonts, the one with most of the missing letters first; told where none has one."""
    from matplotlib import font_manager

    found = [] if not missing else [
        (font.name, missing & font_manager.get_font(font.fname).get_charmap().keys())
        for font in sorted(font_manager.fontManager.ttflist, key=lambda font: font.fname)
        if font.style == "normal" and not font.name.startswith("Last Resort")]  # boxes with numbers in them
    names = []
    while missing:
        name, letters = max(found, key=lambda font: len(font[1] & missing))
        if not letters & missing:
            tell(f"No installed font has the letters {' '.join(map(chr, sorted(missing)))}: on contact sheets boxes "
                 "stand in their place.")
            break
        names.append(name)
        missing -= letters
    return names

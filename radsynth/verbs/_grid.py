"""Network values as pictures: which value is black and which is white, colour, channels side by side, grids."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap
from radsynth.files import write_atomically
from radsynth.image import RGB, ImageSpec

NAMED = 9
"""Label values, with the background, whose greys can be told apart."""


def in_colour(channels: Sequence[str]) -> bool:
    """Whether channels are red, green and blue: three contrasts shown as these would be colours that mean nothing."""
    return tuple(channels) == RGB


def apart(dimensions: int, channels: Sequence[str]) -> str:
    """What stands in one picture of `flat`, in words, where it is not one grey or coloured image; "" where it is."""
    words = []
    if dimensions == 3:
        words.append("Each picture is one volume: its middle slices across the three axes, side by side.")
    if len(channels) > 1 and not in_colour(channels):
        how = "one below the other" if dimensions == 3 else "side by side"
        words.append(f"Channels stand {how}: {', '.join(channels)}.")
    return " ".join(words)


def greys(names: Sequence[str]) -> str:
    """Which label is which grey in pictures of label maps, in words; "" of one label alone and of too many to tell.

    names: of the label values in order, the background first
    """
    return f"The background is black; from dark to light: {', '.join(names[1:])}." if 2 < len(names) <= NAMED else ""


def display(images: NDArray[np.float32], ends: tuple[float, float] = (-1.0, 1.0), *, colour: bool = True,
            ) -> NDArray[np.uint8]:
    """Network values (n, c, *space), black to white at `ends`, as (n, rows, columns) or (n, rows, columns, 3).

    Of a volume the middle slice is shown; channels stand side by side, but for three that are a `colour`.
    """
    shown = shades(images, ends)
    if shown.ndim == 5:
        shown = shown[:, :, shown.shape[2] // 2]
    if shown.shape[1] == 3 and colour:
        return np.moveaxis(shown, 1, -1)
    return np.concatenate(list(np.moveaxis(shown, 1, 0)), axis=-1)


def shown_window(spec: ImageSpec) -> tuple[float, ...] | None:
    """The window, in the images' units, that pictures are shown in: that of the CT scans; None for the whole range.

    From air to bone soft tissue would be one grey. Windows of MR scans differ too much to share one.
    """
    return spec.window if spec.units == "HU" else None


def black_and_white(window: Sequence[float] | None, intensity: IntensityMap | None) -> tuple[float, float]:
    """The network values of a window's ends; without a window the whole range."""
    if window is None or intensity is None:
        return -1.0, 1.0
    low, high = (2 * (value - intensity.low) / (intensity.high - intensity.low) - 1 for value in window)
    return low, high


def in_window(pixels: NDArray[np.float32], ends: tuple[float, float]) -> NDArray[np.float32]:
    """Network values with those at `ends` at -1 and 1; what lies outside goes beyond."""
    low, high = ends
    return np.asarray((pixels - low) * (2 / (high - low)) - 1, dtype=np.float32)


def shades(pixels: NDArray[np.float32], ends: tuple[float, float] = (-1.0, 1.0)) -> NDArray[np.uint8]:
    """Network values as 8-bit grey values from black to white at `ends`."""
    low, high = ends
    return np.asarray(np.clip(np.rint((pixels - low) * (255 / (high - low))), 0, 255), dtype=np.uint8)


def grid(pictures: NDArray[np.uint8], columns: int = 0) -> NDArray[np.uint8]:
    """(n, rows, columns[, 3]) as one picture with a one-pixel gap, about as wide as high by default."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows, (height, width) = math.ceil(len(pictures) / columns), pictures.shape[1:3]
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *pictures.shape[3:]), 40, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = (k // columns) * (height + 1), (k % columns) * (width + 1)
        sheet[top:top + height, left:left + width] = picture
    return sheet


def save_grid(images: NDArray[Any], path: Path, columns: int = 0, ends: tuple[float, float] = (-1.0, 1.0), *,
              colour: bool = True) -> None:
    """Write network values, black to white at `ends`, as one PNG; colour: as in `display`."""
    from PIL import Image as Picture

    content = io.BytesIO()
    Picture.fromarray(grid(display(images, ends, colour=colour), columns)).save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def save_pictures(path: Path, pictures: NDArray[np.uint8]) -> None:
    """An array of pictures, without pickle. In memory first: of a full disk NumPy's own writing does not say why."""
    content = io.BytesIO()
    np.save(content, pictures, allow_pickle=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())

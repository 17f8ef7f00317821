"""Grids of images as one picture, for previews and reports."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def display(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Network values (n, c, *space) in [-1, 1] as (n, rows, columns) or (n, rows, columns, 3) for a screen.

    Of a volume the middle slice is shown; of other than 1 or 3 channels the channels stand side by side.
    """
    shown = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    if shown.ndim == 5:
        shown = shown[:, :, shown.shape[2] // 2]
    if shown.shape[1] == 3:
        return np.moveaxis(shown, 1, -1)
    return np.concatenate(list(np.moveaxis(shown, 1, 0)), axis=-1)


def grid(pictures: NDArray[np.uint8], columns: int = 0) -> NDArray[np.uint8]:
    """(n, rows, columns[, 3]) as one picture with a one-pixel gap, about as wide as high by default."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows, (height, width) = math.ceil(len(pictures) / columns), pictures.shape[1:3]
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *pictures.shape[3:]), 40, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = (k // columns) * (height + 1), (k % columns) * (width + 1)
        sheet[top:top + height, left:left + width] = picture
    return sheet


def save_grid(images: NDArray[Any], path: Path, columns: int = 0) -> None:
    """Write network values as one PNG."""
    from PIL import Image as Picture

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    Picture.fromarray(grid(display(images), columns)).save(temporary, format="PNG")
    temporary.replace(path)

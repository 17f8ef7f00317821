"""Pictures of the report: sheets of images as inline PNG, charts as inline SVG whose colours follow the page's."""

from __future__ import annotations

import base64
import io
import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import spread
from radsynth.verbs._grid import grid

COLOURS = {"#101112": "var(--ink)", "#202122": "var(--line)", "#303132": "var(--real)", "#404142": "var(--synthetic)",
           "#505152": "var(--third)", "#606162": "var(--fourth)"}
"""Stand-ins that matplotlib draws with, and the page's own colours that take their place (light and dark)."""
INK, LINE, REAL, SYNTHETIC, THIRD, FOURTH = COLOURS
LABELS = {"discriminator/real": "real images", "discriminator/fake": "synthetic images",
          "discriminator/loss": "discriminator", "generator/loss": "generator"}
"""How logged terms are called in charts."""
TERMS = {
    "adversarial": "discriminator is not deceived", "dice": "labels do not overlap (Dice)",
    "entropy": "wrong labels (cross-entropy)", "absolute": "difference from the truth",
    "squared": "squared difference from the truth", "charbonnier": "difference from the truth (Charbonnier)",
    "dissimilarity": "unlike structure", "labels": "labels do not lie on each other",
    "smoothness": "warp is not smooth", "cycle": "there and back differ",
    "identity": "needless change", "contrast": "places differ from the given ones",
    "features": "unlike to the discriminator's layers", "redrawing": "difference from the redrawn image",
    "recovery": "style is not found again", "divergence": "codes are not spread as noise is", "start": "warm start",
}
"""The same of terms that several networks or domains may have: what is wrong while they are large."""
SERIES = (REAL, SYNTHETIC, THIRD, FOURTH)


def png(picture: NDArray[np.uint8]) -> str:
    """(rows, columns[, 3]) as a data address."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def ratio(image: str) -> float:
    """Width over height of what `png` returned: both stand at the head of the file."""
    width, height = struct.unpack(">II", base64.b64decode(image.partition(",")[2][:32])[16:24])
    return float(width / height)


def sheet(images: NDArray[np.uint8], columns: int, spacing: Sequence[float] | None = None, *, colour: bool = True,
          ) -> str:
    """Display values (n, c, *space) as one picture; volumes and channels as `flat` shows them."""
    return png(grid(np.stack([flat(image, spacing, colour=colour) for image in images]), columns))


HIGHEST = 1.5
"""Height of a sheet at most, its width being 1: half a page wide it then stands on one page with its heading."""


def evenly(images: NDArray[np.uint8], columns: int, most: int, spacing: Sequence[float] | None = None, *,
           colour: bool = True) -> NDArray[np.uint8]:
    """At most so many of the images, from all over them, and no more than fit onto a sheet in rows of `columns`."""
    height, width = flat(images[0], spacing, colour=colour).shape[:2]
    return images[spread(len(images), min(most, columns * max(1, int(HIGHEST * columns * width / height))))]


def flat(image: NDArray[np.uint8], spacing: Sequence[float] | None = None, *, smooth: bool = True,
         colour: bool = True) -> NDArray[np.uint8]:
    """One image (c, *space) as (rows, columns[, 3]); a volume as its middle axial, coronal and sagittal slices.

    Channels stand side by side, those of a volume one below the other, but for three that are a `colour`.

    spacing: steps between (slices,) rows and columns; everything then has the shape that it has in the body, where
    slices are thicker than pixels are wide, too
    smooth: False repeats values instead of passing smoothly between them, for masks
    """
    volume = image.ndim == 4
    if volume:
        depth, height, width = (side // 2 for side in image.shape[1:])
        # Slices step towards the head, which belongs on top.
        planes = [image[:, depth], image[:, ::-1, height], image[:, ::-1, :, width]]
        slices, rows, columns = _pixels(spacing, 3)
        steps = [(rows, columns), (slices, columns), (slices, rows)]
        planes = [_in_shape(*pair, smooth) for pair in zip(planes, steps, strict=True)]
        highest = max(plane.shape[1] for plane in planes)
        image = np.concatenate([_padded(plane, highest) for plane in planes], axis=2)
    else:
        image = _in_shape(image, _pixels(spacing, 2), smooth)
    if len(image) == 3 and colour:
        return np.moveaxis(image, 0, -1)
    return np.concatenate(list(image), axis=0 if volume else 1)  # a dozen planes in one row could not be read


def _pixels(spacing: Sequence[float] | None, dimensions: int) -> tuple[float, ...]:
    """How many pixels of a picture a step along each of the last axes is: one along the finest."""
    if spacing is None or len(spacing) < dimensions:
        return (1.0,) * dimensions
    return tuple(step / min(spacing[-dimensions:]) for step in spacing[-dimensions:])


def _in_shape(plane: NDArray[np.uint8], steps: tuple[float, ...], smooth: bool) -> NDArray[np.uint8]:
    """A plane (c, rows, columns) with pixels that are as wide as high. steps: how high and wide its own are, in these.
    """
    from PIL import Image as Pillow

    rows, columns = (max(1, round(side * step)) for side, step in zip(plane.shape[1:], steps, strict=True))
    if (rows, columns) == plane.shape[1:]:
        return plane
    kernel = Pillow.Resampling.BICUBIC if smooth else Pillow.Resampling.NEAREST
    return np.stack([np.asarray(Pillow.fromarray(one).resize((columns, rows), kernel)) for one in plane])


def _padded(plane: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    missing = rows - plane.shape[1]
    return np.pad(plane, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)))


TWO_COLUMNS = 32
"""Letters of a name, at most, for two of them to stand side by side: more would press the chart together."""


def called(name: str) -> str:
    """A logged term in plain words: generator/dice, or translators/t1_cycle of a domain of its own."""
    if name in LABELS:
        return LABELS[name]
    network, _, term = name.partition("/")
    if term in TERMS:
        return TERMS[term]
    domain, _, last = term.rpartition("_")
    if domain and last in TERMS:
        return f"{domain}: {TERMS[last]}"
    return f"{network} {term}".replace("_", " ").strip()


def course(lines: list[dict[str, Any]], names: list[str]) -> str:
    """Logged terms over the images seen in training."""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Any) -> None:
        for name, (dashes, colour) in zip(names, itertools.product(("-", "--"), SERIES), strict=False):
            points = [(line["images"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=dashes, linewidth=1.4, label=called(name))
        axes.set_xlabel("images seen in training")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if min(axes.get_ylim()) > 0:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if len(names) > 1:
            columns = 2 if max(len(called(name)) for name in names) <= TWO_COLUMNS else 1
            axes.legend(frameon=False, labelcolor=INK, ncols=columns, loc="lower left", bbox_to_anchor=(-0.02, 1.0))

    return _svg(draw)


def histogram(found: dict[str, Any]) -> str:
    """Intensity histograms of real and synthetic images; heights are square roots, so that rare values can be seen."""
    def draw(axes: Any) -> None:
        edges = np.linspace(found["low"], found["high"], len(found["real"]) + 1)
        for name, colour in (("real", REAL), ("synthetic", SYNTHETIC)):
            axes.stairs(np.sqrt(np.asarray(found[name], dtype=float)), edges, color=colour, linewidth=1.4, label=name)
        axes.set_xlabel(found["units"])
        axes.set_yticks([])
        axes.set_ylabel("share of pixels (root)")
        axes.legend(frameon=False, labelcolor=INK, ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 1.0))

    return _svg(draw)


def _svg(draw: Callable[[Any], None]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    look: Any = {"svg.fonttype": "none", "svg.hashsalt": "radsynth", "font.family": "sans-serif", "font.size": 9,
            "axes.edgecolor": LINE, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "text.color": INK,
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": LINE,
            "grid.linewidth": 0.5, "axes.axisbelow": True, "text.parse_math": False}
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.tick_params(length=0)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg"):]
    for stand_in, colour in COLOURS.items():
        text = text.replace(stand_in, colour)
    return text

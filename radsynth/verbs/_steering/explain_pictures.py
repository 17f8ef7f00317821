"""The pictures of `explain`: redrawn images, counterfactual pairs with differences, maps over the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.image import ImageSpec
from radsynth.verbs._grid import display
from radsynth.verbs._steering.contact_sheets import Shown, save_pictures
from radsynth.verbs._steering.explained import Explained

MARK = ("Rows named synthetic were not acquired from a patient. Other rows begin with a held-out or given image, a "
        "patient's unless its file says otherwise; what is redrawn from it is synthetic.")
MARK_OF_CHANGES = ("Synthetic images made by radsynth. Rows that are not named synthetic are redrawn from a held-out "
                   "or given image, which is not shown here.")
MOST_CHANGES = 6


def save_pictures_of(place: Path, explained: Sequence[Explained], spec: ImageSpec, shown: Shown) -> list[str]:
    """Write all pictures; returns the file names."""
    names = [_name(one, spec, k) for one in explained for k in range(len(one.given.names))]
    _save_redrawn(place / "inversion.png", explained, names, shown)
    written = ["inversion.png"]
    if explained[0].changes:
        _save_changes(place / "counterfactuals.png", explained, names, shown)
        written.append("counterfactuals.png")
    if explained[0].gradients is not None:
        _save_maps(place / "attribution.png", explained, names, shown)
        written.append("attribution.png")
    return written


def _name(one: Explained, spec: ImageSpec, row: int) -> str:
    label = int(one.given.labels[row])
    told = f"\n{spec.labels[label]}" if 0 <= label < len(spec.labels) else ""
    return f"{one.given.names[row][:24]}{told}{' (guessed)' if one.given.assumed else ''}"


def _grey(images: NDArray[np.float32], shown: Shown) -> NDArray[np.uint8]:
    """(n, c, *space) as (n, rows, columns, 3)."""
    pictures = display(images, shown.ends, colour=shown.colour)
    return np.asarray(np.repeat(pictures[..., None], 3, -1) if pictures.ndim == 3 else pictures, dtype=np.uint8)


def _half(shown: Shown) -> float:
    """Half of the way from black to white, which is full colour in a difference."""
    return (shown.ends[1] - shown.ends[0]) / 2


def _flat(values: NDArray[np.float32], shown: Shown) -> NDArray[np.float32]:
    """Values of pixels (n, c, *space) laid out as `display` lays out images; colours are summed."""
    if values.ndim == 5:
        values = values[:, :, values.shape[2] // 2]
    if values.shape[1] == 3 and shown.colour:
        return np.asarray(values.sum(1))
    return np.concatenate(list(np.moveaxis(values, 1, 0)), axis=-1)


def signed(values: NDArray[np.float32], limit: float) -> NDArray[np.uint8]:
    """(n, rows, columns) as colours: white at 0, red up to `limit`, blue down to its negative."""
    share = np.clip(values / max(limit, 1e-12), -1, 1)[..., None]
    red, blue, white = (np.asarray(colour, float) for colour in ((178, 24, 43), (33, 102, 172), (255, 255, 255)))
    colours = white + np.abs(share) * (np.where(share > 0, red, blue) - white)
    return np.asarray(np.rint(colours), dtype=np.uint8)


def over(picture: NDArray[np.uint8], values: NDArray[np.float32], limit: float) -> NDArray[np.uint8]:
    """Red and blue laid over a picture (rows, columns, 3), the more opaque the larger the value (rows, columns)."""
    share = np.clip(np.abs(values) / max(limit, 1e-12), 0, 1)[..., None] ** 0.7
    red, blue = np.asarray((230, 30, 40), float), np.asarray((40, 110, 240), float)
    colour = np.where(values[..., None] > 0, red, blue)
    return np.asarray(np.rint(picture * (1 - 0.85 * share) + colour * 0.85 * share), dtype=np.uint8)


def _save_redrawn(path: Path, explained: Sequence[Explained], names: list[str], shown: Shown) -> None:
    rows, notes = [], []
    for one in explained:
        redrawn = one.inversion.images.detach().float().clamp(-1, 1).cpu().numpy()
        nearest = one.inversion.nearest.detach().float().clamp(-1, 1).cpu().numpy()
        difference = signed(_flat(redrawn - one.given.images, shown), _half(shown))
        columns = [_grey(one.given.images, shown), _grey(redrawn, shown), difference, _grey(nearest, shown)]
        for k, line in enumerate(one.quality):
            rows.append(np.stack([column[k] for column in columns]))
            notes.append(["", f"{100 * line['absolute_error']:.1f} %, SSIM {line['ssim']:.2f}", "",
                          f"{100 * line['nearest_absolute_error']:.1f} %, SSIM {line['nearest_ssim']:.2f}"])
    save_pictures(rows, path, title="Inversion: what the generator can redraw", row_names=names,
                  column_names=["image", "redrawn", "difference", "nearest\nof 512 drawn"], notes=notes,
                  caption=f"{shown.words}. Below: mean absolute difference as a share of the whole range. Red: redrawn "
                  "is brighter, blue: darker; full colour is half of the way from black to white.", mark=MARK)


def _save_changes(path: Path, explained: Sequence[Explained], names: list[str], shown: Shown) -> None:
    """The redrawn image, each change, and below it the difference."""
    changes = explained[0].changes[:MOST_CHANGES]
    rows, row_names = [], []
    for one in explained:
        redrawn = one.inversion.images.detach().float().clamp(-1, 1).cpu().numpy()
        for k in range(min(3, len(redrawn))):
            changed = one.counterfactuals[k][:MOST_CHANGES]
            rows.append(np.concatenate([_grey(redrawn[k:k + 1], shown), _grey(changed, shown)]))
            gap = signed(_flat(changed - redrawn[k:k + 1], shown), _half(shown))
            rows.append(np.concatenate([np.full_like(gap[:1], 255), gap]))
            row_names += [names[len(explained[0].given.names) * (one is not explained[0]) + k], "difference"]
    save_pictures(rows, path, title="Counterfactual pairs: the same image, otherwise", row_names=row_names,
                  column_names=["redrawn", *changes],
                  caption=f"{shown.words}. Each column changes one thing: the class, or two steps along an attribute's "
                  "direction, the others kept. Red: brighter, blue: darker; full colour is half of the way from black "
                  "to white. They show what the generator has learned to go together, not what would happen to a "
                  "patient.",
                  mark=MARK_OF_CHANGES)


def _save_maps(path: Path, explained: Sequence[Explained], names: list[str], shown: Shown) -> None:
    gradients = [_smooth(_flat(one.gradients, shown)) for one in explained if one.gradients is not None]
    occlusions = [_flat(one.occlusions[:, None], shown) for one in explained if one.occlusions is not None]
    rows, notes = [], []
    for one, slopes, falls in zip(explained, gradients, occlusions, strict=True):
        plain = _grey(one.given.images, shown)
        falls = np.concatenate([falls] * (plain.shape[2] // falls.shape[2]), axis=-1)
        for k in range(len(plain)):
            # Of each image its own scale: a strong image must not blank the others; the score below tells the size.
            maps = [over(plain[k], one_map[k], float(np.quantile(np.abs(one_map[k]), 0.99)))
                    for one_map in (slopes, falls)]
            rows.append(np.stack([plain[k], *maps]))
            notes.append([f"score {one.scores[k]:+.2f}" if one.scores else "", "", ""])
    save_pictures(rows, path, title="Where the discriminator looks", row_names=names, notes=notes,
                  column_names=["image", "integrated\ngradients", "occlusion"],
                  caption=f"{shown.words}. Red: speaks for real, blue: speaks for synthetic, against the mean "
                  "synthetic image of the class; colours are scaled for each picture. The score's zero has no meaning "
                  "of its own.",
                  mark=MARK)


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps (n, rows, columns) averaged over one pixel around, or they would be specks that no eye can gather."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(values, (0, 1, 1)), dtype=np.float32)

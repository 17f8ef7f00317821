"""How the virtual brain cohort looks in a scanner: tissue shares, the drawn skull and scalp, signals and bias field."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radsynth.datasets._brain_anatomy import Array

Contrast = Literal["t1", "t2", "flair"]

SIGNALS: dict[Contrast, dict[str, float]] = {
    "t1": {
        "csf": 0.18,
        "grey": 0.52,
        "white": 0.84,
        "lesion": 0.40,
        "bone": 0.07,
        "marrow": 0.42,
        "muscle": 0.40,
        "fat": 0.86,
    },
    "t2": {
        "csf": 1.00,
        "grey": 0.56,
        "white": 0.38,
        "lesion": 0.82,
        "bone": 0.06,
        "marrow": 0.26,
        "muscle": 0.22,
        "fat": 0.55,
    },
    "flair": {
        "csf": 0.10,
        "grey": 0.62,
        "white": 0.48,
        "lesion": 0.98,
        "bone": 0.06,
        "marrow": 0.26,
        "muscle": 0.30,
        "fat": 0.60,
    },
}
"""Signal of each tissue relative to the brightest. Every patient's differ a little."""

TEMPLATE_T1 = {"csf": 0.46, "grey": 0.70, "white": 0.90}
"""T1 values of the template itself; what remains of it after its tissue maps is detail that they do not have."""

SKULL_BASE = -50.0
"""mm: towards it the bone becomes thinner and the soft tissue thicker."""


Looks = dict[str, float]


def looks(rng: np.random.Generator) -> Looks:
    """What makes one patient's head look different from another's: mm of the head's layers, and their slopes."""
    return {
        "fluid": rng.uniform(0.8, 3.2),
        "bone": rng.uniform(4.5, 8.5),
        "scalp": rng.uniform(3.0, 8.0),
        "muscle": rng.uniform(0.2, 0.7),
        "marrow": rng.uniform(0.3, 1.0),
        "slope": rng.normal(0, 0.12),
        "tilt": rng.normal(0, 0.05),
    }


def lesion_share(lesions: Array, points: Array, rng: np.random.Generator) -> Array:
    """(n,) share of lesion at positions (n, 3): ellipsoids (centre, radii in mm) with a wavy border."""
    share: Array = np.zeros(len(points), np.float32)
    for centre, radii in lesions:
        offset = (points - centre) / radii
        waves, phases = rng.normal(0, 2.5, (4, 3)).astype(np.float32), rng.uniform(0, 2 * np.pi, 4).astype(np.float32)
        reach = np.sqrt((offset**2).sum(axis=1)) * (1 + 0.3 * np.sin(offset @ waves.T + phases).mean(axis=1))
        share = np.maximum(share, np.clip((1 - reach) * radii.mean() / 2.5 + 0.5, 0, 1)).astype(np.float32)
    return share


def tissue_shares(maps: Array, lesion: Array, look: Looks) -> Array:
    """(5, n) shares of background, fluid, grey matter, white matter and lesion; their sum is 1.

    maps: the atlas at the positions, (5, n). Fluid fills the hull around the brain and a rim up to the skull.
    """
    _, grey, white, brain, distance = maps
    inside = np.clip(look["fluid"] + 0.75 - distance, 0, 1.5) / 1.5
    matter = np.clip(grey + white, 1e-6, None)
    total = np.minimum(np.minimum(matter, np.clip(1.6 * brain, 0, 1)), inside)
    damaged = np.where(total > 0.3, lesion, 0)
    parts = np.stack([1 - inside, inside - total, grey / matter * total, white / matter * total]) * (1 - damaged)
    return np.concatenate([parts, damaged[None]]).astype(np.float32)


def signals(
    contrast: Contrast, shares: Array, maps: Array, there: Array, look: Looks, pixel: float, rng: np.random.Generator
) -> Array:
    """(n,) signals, 0 in air, of one contrast: tissues, the template's own detail, skull and scalp.

    shares: (5, n) of `tissue_shares`; maps: (5, n) of the atlas at the template positions `there` (n, 3)
    pixel: size in mm
    """
    level = {name: value * rng.normal(1, 0.06) for name, value in SIGNALS[contrast].items()}
    healthy = np.clip(1 - shares[4], 0, 1)
    mix = sum(shares[i] * level[name] for i, name in ((1, "csf"), (2, "grey"), (3, "white"), (4, "lesion")))
    usual = sum(shares[i] * TEMPLATE_T1[name] for i, name in ((1, "csf"), (2, "grey"), (3, "white")))
    matter = np.clip((shares[2] + shares[3]) * 2 - 1, 0, 1)
    slope = (level["white"] - level["grey"]) / (TEMPLATE_T1["white"] - TEMPLATE_T1["grey"])
    detail = np.clip(maps[0] - usual, -0.15, 0.15) * slope * matter * healthy
    total: Array = mix + detail + _head(maps[4], there, look, level, pixel) * shares[0]
    return np.maximum(total, 0).astype(np.float32)


def _head(distance: Array, there: Array, look: Looks, level: dict[str, float], pixel: float) -> Array:
    """(n,) signal outside the fluid, by the distance from the brain's hull: bone with marrow, muscle, fat, air."""
    back, left, low = (there[:, 1] - 17) / 90, there[:, 2] / 70, np.clip(-there[:, 0] / 40 + 0.4, 0, 1)
    base = 0.6 + 0.4 * np.clip((there[:, 0] - SKULL_BASE) / 30, 0, 1)
    bone = look["bone"] * (1 + look["slope"] * back + look["tilt"] * left) * base
    scalp = look["scalp"] * (1 + look["slope"] * back) + np.clip(-there[:, 0] / 10, 0, 6)
    depth = distance - look["fluid"]
    marrow = np.exp(-(((depth / bone - 0.5) / 0.22) ** 2)) * look["marrow"]
    skull = level["bone"] + (level["marrow"] - level["bone"]) * marrow
    muscle = _step(look["muscle"] * low * scalp - (depth - bone), pixel)
    flesh = level["muscle"] * muscle + level["fat"] * (1 - muscle)
    outer = _step(depth - bone, pixel)
    return np.asarray((skull * (1 - outer) + flesh * outer) * _step(bone + scalp - depth, pixel), dtype=np.float32)


def _step(depth: NDArray[Any], pixel: float) -> Array:
    """Share of a pixel that lies beyond a border `depth` mm away: 0 to 1."""
    return np.clip(depth / pixel + 0.5, 0, 1).astype(np.float32)


def bias(points: Array, rng: np.random.Generator) -> Array:
    """(n,) factor of the coil's uneven sensitivity at positions (n, 3) in mm: exp of a random smooth polynomial."""
    z, y, x = ((points - [10, 17, 0]) / 100).astype(np.float32).T
    terms = np.stack([z, y, x, z * y, y * x, z * x, z * z, y * y, x * x])
    field: Array = np.exp(np.einsum("i,in->n", rng.normal(0, 0.08, 9).astype(np.float32), terms))
    return field

"""Whether images vary as much as real ones: the likeness of random pairs by multi-scale structural similarity
(MS-SSIM, Wang et al. 2003), as Odena et al. 2017 use it to find collapse.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._features import shrink
from radsynth.metrics._resampling import estimate, halves, units
from radsynth.metrics._similarity import WINDOW, ms_ssim

OWN = "MS-SSIM, version 1"
MINIMUM = 20
IMAGES = 400
PAIRS = 600
LARGEST = {2: 4096, 3: 16384}
NUMBERS = (
    Number(
        name="pair_likeness", title="Likeness of pairs (MS-SSIM)", better="closer to floor",
        meaning="How alike two random synthetic images are, from 0 to 1 for the same image twice: above the floor they "
                "vary less than real images do.",
    ),
)


def applies(shape: tuple[int, ...]) -> bool:
    """Every side must hold the window of the similarity."""
    return min(shape[1:]) >= WINDOW


def describe(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> the same, averaged over blocks until at most 4,096 pixels or 16,384 voxels are left."""
    small = shrink(pixels, LARGEST[pixels.ndim - 2])
    return small if min(small.shape[2:]) >= WINDOW else pixels


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """The mean MS-SSIM of random pairs of two patients among the synthetic images; the floor is that of real ones."""
    require(comparison, MINIMUM)
    value = _estimate(comparison.synthetic, repetitions, seed)
    floor = _estimate(comparison.floor, repetitions, seed)
    return [measurement(NUMBERS[0], comparison, value, floor, pixels=True)]


def _estimate(sample: Sample, repetitions: int, seed: int) -> Estimate:
    assert sample.own is not None
    n = len(sample)
    every = np.stack(np.triu_indices(n, 1), axis=1)
    apart = sample.patients[every[:, 0]] != sample.patients[every[:, 1]]
    every = every[apart] if apart.any() else every  # slices of one patient are alike, and more so the fewer patients
    pairs = np.random.default_rng(seed).permutation(every)[:PAIRS]
    chunks = [ms_ssim(sample.own[part[:, 0]], sample.own[part[:, 1]])
              for part in np.array_split(pairs, -(-len(pairs) // 50))]
    likeness = np.concatenate(chunks)
    parts, drawn = [], halves(sample.patients, repetitions, seed + 1)
    for rows in drawn:
        inside = np.zeros(n, dtype=bool)
        inside[rows] = True
        both = inside[pairs].all(1)
        parts.append(float(likeness[both].mean()) if both.any() else float(likeness.mean()))
    return estimate(float(likeness.mean()), parts, units(sample.patients, drawn[0]), low=0.0, high=1.0)

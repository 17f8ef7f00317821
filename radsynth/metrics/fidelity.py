"""How close two sets of images are in feature space: Frechet distance (Heusel et al. 2017) and kernel distance (KID,
Binkowski et al. 2018). On other than the Inception features the first is not FID, and is never called so here.
"""

from __future__ import annotations

import math

import numpy as np

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._frechet import frechet_distance as frechet_distance
from radsynth.metrics._frechet import frechet_of_parts
from radsynth.metrics._kernel import indicators, kernel_distances
from radsynth.metrics._kernel import kernel_distance as kernel_distance
from radsynth.metrics._resampling import estimate, paired_halves

MINIMUM = 50
NUMBERS = (
    Number(
        name="frechet_distance", title="Fréchet distance", better="down to floor",
        meaning="How far the synthetic images as a group lie from unseen real ones in an image network's features; "
                "it falls when they look right and vary like real ones.",
    ),
    Number(
        name="frechet_distance_extrapolated", title="Fréchet distance, extrapolated", better="down to floor",
        meaning="The same distance with most of the inflation by the limited number of images taken out, "
                "so that runs of different size can be compared; its floor is much nearer to 0.",
    ),
    Number(
        name="kernel_distance", title="Kernel distance (KID), times 1000", better="down to floor",
        meaning="A second distance between the groups that does not depend on the number of images; "
                "0 is what two groups of real images give on average.",
    ),
)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """Frechet distance, the same extrapolated to infinitely many images, and 1000 times the kernel distance."""
    require(comparison, MINIMUM)
    value = _estimates(comparison.real, comparison.synthetic, repetitions, seed)
    floor = _estimates(comparison.real, comparison.floor, repetitions, seed)
    return [measurement(number, comparison, v, f) for number, v, f in zip(NUMBERS, value, floor, strict=True)]


def _estimates(real: Sample, other: Sample, repetitions: int, seed: int) -> list[Estimate]:
    pairs, units = paired_halves(real.patients, other.patients, repetitions, seed)
    a, b = real.features, other.features
    full, parts = frechet_distance(a, b), frechet_of_parts(a, b, pairs)
    # The bias goes as 1/n (Chong and Forsyth 2020): a straight line through the halves and all, read off at 1/n = 0.
    # A half of three patients is one of them: a third of the images.
    inverse, inverse_of_parts = 1 / len(a), float(np.mean([1 / len(i) + 1 / len(j) for i, j in pairs])) / 2
    step = inverse / (inverse_of_parts - inverse)
    part_error = float(np.std(parts, ddof=1)) / math.sqrt(len(parts))
    # The first row of weights is everything: the kernel is computed once for the value and all half-samples.
    rows_a, rows_b = (indicators([np.arange(len(s)), *(p[i] for p in pairs)], len(s))
                      for i, s in enumerate((real, other)))
    kernel, *kernel_parts = 1000 * kernel_distances(a, b, rows_a, rows_b)
    return [
        estimate(full, parts, units, low=0.0),
        estimate(full - step * (float(np.mean(parts)) - full), parts, units, extra=step * part_error),
        estimate(float(kernel), kernel_parts, units),
    ]

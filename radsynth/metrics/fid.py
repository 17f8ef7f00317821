"""FID (Heusel et al. 2017): the Frechet distance on the original Inception features, when their weights are given."""

from __future__ import annotations

from radsynth.metrics import Comparison, Measurement, Number, measurement, require
from radsynth.metrics._frechet import frechet_estimate

OWN = "Inception-v3 of FID with the original weights"
MINIMUM = 50
NUMBERS = (
    Number(
        name="fid", title="FID", better="down to floor",
        meaning="The Fréchet distance of the literature, with the features of the original Inception network; like "
                "every such distance it can only be compared at equal numbers of images.",
    ),
)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """FID of the synthetic images against the held-out ones."""
    require(comparison, MINIMUM)
    value = frechet_estimate(comparison.real, comparison.synthetic, repetitions, seed)
    floor = frechet_estimate(comparison.real, comparison.floor, repetitions, seed)
    return [measurement(NUMBERS[0], comparison, value, floor, own=True)]

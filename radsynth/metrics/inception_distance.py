"""The Frechet distance on FID's network with weights that are not known as the original: never called FID."""

from __future__ import annotations

from radsynth.metrics import Comparison, Measurement, Number, measurement, require
from radsynth.metrics._frechet import frechet_estimate

OWN = "Inception-v3 of FID with other weights"
MINIMUM = 50
NUMBERS = (
    Number(
        name="inception_distance", title="Fréchet distance, Inception network", better="down to floor",
        meaning="A Fréchet distance on the Inception network with the weights that were given; they are not known to "
                "be the original ones, so this is not the FID of the literature.",
    ),
)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """The distance of the synthetic images to the held-out ones."""
    require(comparison, MINIMUM)
    value = frechet_estimate(comparison.real, comparison.synthetic, repetitions, seed)
    floor = frechet_estimate(comparison.real, comparison.floor, repetitions, seed)
    return [measurement(NUMBERS[0], comparison, value, floor, own=True)]

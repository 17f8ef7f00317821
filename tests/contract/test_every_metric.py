"""Every module of radsynth/metrics keeps the contract of the package's docstring."""

from __future__ import annotations

import dataclasses
import functools
import math
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from radsynth.errors import DataError
from radsynth.metrics import Comparison, Measurement, Sample, modules

MODULES = modules()


def sample(n: int, seed: int) -> Sample:
    generator = np.random.default_rng(seed)
    histograms = generator.random((n, 1, 1024), dtype=np.float32)
    return Sample(
        features=generator.normal(size=(n, 12)).astype(np.float32),
        thumbnails=generator.uniform(-1, 1, (n, 16)).astype(np.float32),
        histograms=histograms / histograms.sum(-1, keepdims=True), patients=np.arange(n) // 2,
    )


def own(n: int, seed: int, module: ModuleType) -> NDArray[np.float32] | None:
    """What the metric itself keeps of blurred noise; of probabilities and of Inception features where it has them."""
    if not hasattr(module, "OWN"):
        return None
    generator = np.random.default_rng(seed)
    if not hasattr(module, "describe"):
        values = generator.random((n, 6), dtype=np.float32)
        return np.asarray(values / values.sum(1, keepdims=True), dtype=np.float32)
    space = (12, 12, 12) if needs_volumes(module) else (16, 16)
    noise = gaussian_filter(generator.normal(size=(n, 1, *space)), (0, 0, *[1.5] * len(space)))
    place = generator.uniform(-0.3, 0.3, (n, 1, *[1] * len(space)))
    return np.asarray(module.describe(np.clip(2 * noise + place, -1, 1).astype(np.float32)), dtype=np.float32)


def needs_volumes(module: ModuleType) -> bool:
    return hasattr(module, "applies") and not module.applies((1, 16, 16))


@functools.cache
def comparison(module: ModuleType) -> Comparison:
    """100 images a side, 40 volumes: each of these goes through the image network nine times. All tests share it."""
    n = 40 if needs_volumes(module) else 100
    assert n >= module.MINIMUM
    training = sample(3 * n, 3)
    real, synthetic, floor = (dataclasses.replace(side, own=own(n, seed, module)) for seed, side in enumerate(
        (sample(n, 1), sample(n, 2), training.take(np.arange(n))), start=11))
    return Comparison(real=real, synthetic=synthetic, floor=floor, training=training, features="test features",
                      scale=100.0, units="HU", own="test description")


def test_the_folder_has_the_first_metrics() -> None:
    assert {"coverage", "fidelity", "histogram", "neighbours", "radiomics", "diversity", "spectrum", "anatomy", "fid",
            "inception_score", "slices"} <= set(MODULES)


def test_names_are_unique_over_all_modules() -> None:
    names = [number.name for module in MODULES.values() for number in module.NUMBERS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())
class TestEveryMetric:
    def test_gives_one_measurement_for_each_number(self, module: ModuleType) -> None:
        pair = comparison(module)
        found: list[Measurement] = module.measure(pair, repetitions=12, seed=0)
        assert [one.name for one in found] == [number.name for number in module.NUMBERS]
        for one in found:
            assert one.n == len(pair)
            assert one.low <= one.value <= one.high
            assert one.floor_low <= one.floor <= one.floor_high
            assert one.floor_high > one.floor_low, "an interval of width 0 says nothing"
            assert all(map(math.isfinite, (one.value, one.low, one.high, one.floor, one.floor_low, one.floor_high)))
            assert one.features in ("test features", "test description", "")
            assert one.excess == pytest.approx(one.value - one.floor)
            assert one.excess_low is not None and one.excess_low < one.excess < (one.excess_high or 0)
            assert "parts" not in one.to_json()

    @pytest.mark.parametrize("sizes", [(1,), (1, 0), (1, 2, 0), (1, 2, 3, 30, 0)])
    def test_few_patients_with_uneven_numbers_of_images(self, sizes: tuple[int, ...], module: ModuleType) -> None:
        """The last size stands for the rest of the images."""
        pair = comparison(module)
        counts = [*sizes[:-1], len(pair) - sum(sizes[:-1])]
        real, floor = (dataclasses.replace(side, patients=np.repeat(np.arange(len(counts)), counts))
                       for side in (pair.real, pair.floor))
        for one in module.measure(dataclasses.replace(pair, real=real, floor=floor), repetitions=12, seed=0):
            assert math.isfinite(one.high - one.low) and one.low <= one.value <= one.high
            assert math.isfinite(one.floor_high - one.floor_low) and one.floor_high > one.floor_low

    @pytest.mark.parametrize("side", ["real", "synthetic"])
    def test_intervals_count_the_patients_of_the_side_with_fewer(self, side: str, module: ModuleType) -> None:
        pair = comparison(module)
        few = dataclasses.replace(getattr(pair, side), patients=np.arange(len(pair)) % 5)
        for one in module.measure(dataclasses.replace(pair, **{side: few}), repetitions=12, seed=0):
            alone = module.__name__.endswith(("diversity", "inception_score"))  # look at one side at a time
            assert one.units in ((0, 5) if not alone else (5, 12)), "counts neither patients nor images"

    def test_explains_itself(self, module: ModuleType) -> None:
        for number in module.NUMBERS:
            assert number.better in ("lower", "higher", "closer to floor", "down to floor")
            assert number.unit in ("", "share", "units")
            assert len(number.meaning) > 40 and number.meaning.endswith(".")

    def test_refuses_too_few_images_and_names_the_number_needed(self, module: ModuleType) -> None:
        pair, rows = comparison(module), np.arange(module.MINIMUM - 1)
        few = dataclasses.replace(pair, real=pair.real.take(rows), synthetic=pair.synthetic.take(rows),
                                  floor=pair.floor.take(rows))
        with pytest.raises(DataError, match=str(module.MINIMUM)):
            module.measure(few, repetitions=12, seed=0)

    def test_depends_on_the_seed_alone(self, module: ModuleType) -> None:
        pair = comparison(module)
        found = module.measure(pair, repetitions=12, seed=5)
        np.random.seed(0)  # of all the process, which may have no part in it
        assert module.measure(pair, repetitions=12, seed=5) == found != module.measure(pair, repetitions=12, seed=6)

    def test_real_against_real_is_at_the_floor(self, module: ModuleType) -> None:
        for one in module.measure(comparison(module), repetitions=12, seed=0):
            assert one.low <= one.floor_high and one.floor_low <= one.high, one.name


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="equal numbers"):
        Comparison(real=sample(10, 1), synthetic=sample(9, 2), floor=sample(10, 3), features="test")

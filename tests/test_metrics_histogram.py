from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from radsynth.arrays import IntensityMap
from radsynth.metrics import Comparison, Sample, histogram
from radsynth.metrics._features import histograms
from radsynth.verbs._evaluating.measuring import Scale
from radsynth.verbs.evaluate import Settings
from tests.compared import compare

FAST = Settings(repetitions=10, pairs=3)


def sample(pixels: NDArray[np.float32]) -> Sample:
    n = len(pixels)
    return Sample(features=np.zeros((n, 1), np.float32), thumbnails=np.zeros((n, 1), np.float32),
                  histograms=histograms(pixels), patients=np.arange(n))


def images(seed: int, shift: float = 0.0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=(40, 1, 16, 16)) * 0.2 + shift
    return np.clip(values, -1, 1).astype(np.float32)


def test_parity_with_scipy_in_the_images_units() -> None:
    a, b, c = images(1), images(2, shift=0.1), images(3)
    pair = Comparison(real=sample(a), synthetic=sample(b), floor=sample(c), features="", scale=500.0, units="HU")
    found = histogram.measure(pair, repetitions=20, seed=0)[0]
    assert found.value == pytest.approx(500 * wasserstein_distance(a.ravel(), b.ravel()), abs=1)
    assert found.value == pytest.approx(50, abs=3)
    assert found.unit == "HU" and found.features == ""
    assert found.floor < 5 and found.low < found.value < found.high


def test_each_channel_counts_in_its_own_units() -> None:
    a, b = (np.concatenate([images(seed), images(seed, shift)], axis=1) for seed, shift in ((1, 0.0), (2, 0.1)))
    pair = Comparison(real=sample(a), synthetic=sample(b), floor=sample(a), features="", scale=np.array([1e6, 5.0]))
    found = histogram.measure(pair, repetitions=20, seed=0)[0]
    first, second = (wasserstein_distance(a[:, k].ravel(), b[:, k].ravel()) for k in (0, 1))
    assert found.value == pytest.approx((1e6 * first + 5 * second) / 2, rel=0.02)


def test_every_image_and_channel_of_a_histogram_sums_to_one() -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 2, 4, 5, 6)).astype(np.float32)
    pixels[0, 0] = 1.0
    shares = histograms(pixels)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    assert shares[0, 0, -1] == 1


def test_each_channel_has_a_histogram_of_its_own() -> None:
    held_out, training = (np.concatenate([images(k, 0.3), -images(k, 0.3)], axis=1) for k in (1, 2))
    synthetic = held_out[:, ::-1]  # contrasts changed for each other: all values together are the same
    found = compare(held_out, training, synthetic, settings=FAST)["histogram"]
    assert found["real"] == pytest.approx(found["synthetic"], abs=1e-6)
    first, second = found["channels"]
    assert first["real"] == second["synthetic"] != first["synthetic"] == second["real"]
    assert sum(first["real"]) == pytest.approx(1, abs=1e-3)
    ranges = ((-1000.0, 80.0), (0.0, 9.0))
    own = IntensityMap(method="percentiles", low=-1000, high=80, levels=65535, ranges=ranges)
    told = compare(held_out, training, synthetic, settings=FAST, scale=Scale(intensity=own))["histogram"]["channels"]
    assert [(one["low"], one["high"]) for one in told] == list(ranges)
    assert "channels" not in compare(*(images(k) for k in (1, 2, 3)), settings=FAST)["histogram"]

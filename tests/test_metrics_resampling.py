"""Resampling: how many images patients with several of them are worth, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from radsynth.metrics._resampling import estimate, halves, independent, paired_halves

OWNER = np.repeat(np.arange(40), 25)


def test_images_of_patients_without_several_are_all_independent() -> None:
    assert independent(np.random.default_rng(0).normal(size=50), np.arange(50)) == 50


def test_equal_images_of_a_patient_count_once_and_those_of_one_patient_as_one() -> None:
    assert independent(np.repeat(np.arange(40.0), 25), OWNER) == pytest.approx(40)
    assert independent(np.arange(30.0), np.zeros(30, dtype=np.int64)) == 1
    assert independent(np.ones(1000), OWNER) == pytest.approx(40)


@pytest.mark.parametrize("alike", [0.0, 0.2, 0.8])
def test_the_variance_of_a_mean_is_that_of_so_many_independent_images(alike: float) -> None:
    """Kish: n / (1 + (m - 1) r)."""
    generator, found = np.random.default_rng(1), []
    for _ in range(200):
        values = np.sqrt(alike) * generator.normal(size=40)[OWNER] + np.sqrt(1 - alike) * generator.normal(size=1000)
        found.append(independent(values, OWNER))
    assert np.mean(found) == pytest.approx(1000 / (1 + 24 * alike), rel=0.12)


def test_intervals_of_few_patients_count_them_not_the_halves() -> None:
    parts = np.random.default_rng(2).normal(size=30)
    pairs, units = paired_halves(np.repeat(np.arange(4), 20), np.arange(80), 30, 0)
    assert units == 4 and len(pairs) == 30
    one = estimate(5.0, parts, units)
    assert one.high - 5 == pytest.approx(t.ppf(0.975, 3) * parts.std(ddof=1)) and one.units == 4


def test_halves_of_patients_keep_all_images_of_a_patient_together() -> None:
    for rows in halves(OWNER, 20, 0):
        assert sorted(np.bincount(OWNER[rows], minlength=40)) == [0] * 20 + [25] * 20


def test_one_image_a_patient_is_counted_by_halves_as_ever() -> None:
    parts = np.random.default_rng(3).normal(size=30)
    _, units = paired_halves(np.arange(80), np.arange(80), 30, 0)
    assert estimate(0.0, parts, units).high == t.ppf(0.975, 29) * parts.std(ddof=1)

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Sample, coverage
from radsynth.metrics._distances import distances_by_chunk, nearest, squared_distances
from radsynth.metrics.coverage import precision_recall_density_coverage


def points(n: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(n, 4)) * scale + mean).astype(np.float32)


def naive(real: NDArray[np.float32], fake: NDArray[np.float32], k: int) -> tuple[float, float, float, float]:
    """The definitions, word by word."""
    def distance(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        return float(np.linalg.norm(x.astype(float) - y))

    def radius(all_points: NDArray[np.float32], at: int) -> float:
        return sorted(distance(all_points[at], p) for i, p in enumerate(all_points) if i != at)[k - 1]

    radii_real = [radius(real, i) for i in range(len(real))]
    radii_fake = [radius(fake, j) for j in range(len(fake))]
    precision = np.mean([any(distance(y, x) < r for x, r in zip(real, radii_real, strict=True)) for y in fake])
    recall = np.mean([any(distance(x, y) < r for y, r in zip(fake, radii_fake, strict=True)) for x in real])
    hits = sum(distance(y, x) < r for y in fake for x, r in zip(real, radii_real, strict=True))
    coverage = np.mean([any(distance(y, x) < r for y in fake) for x, r in zip(real, radii_real, strict=True)])
    return float(precision), float(recall), hits / (k * len(fake)), float(coverage)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_parity_with_the_definitions(k: int) -> None:
    real, fake = points(30, 1), points(30, 2, mean=0.7, scale=0.8)
    assert precision_recall_density_coverage(real, fake, k) == pytest.approx(naive(real, fake, k), abs=1e-6)


def test_collapse_costs_recall_and_coverage_but_not_precision() -> None:
    real = points(300, 1)
    collapsed = points(300, 3, scale=0.05)
    precision, recall, _, coverage = precision_recall_density_coverage(real, collapsed)
    assert precision > 0.9 and recall < 0.1 and coverage < 0.3


def test_implausible_images_cost_precision_but_not_recall() -> None:
    precision, recall, density, _ = precision_recall_density_coverage(points(300, 1), points(300, 2, scale=3))
    assert precision < 0.6 and recall > 0.8 and density < 0.6


def test_alike_is_high_in_all_four() -> None:
    assert min(precision_recall_density_coverage(points(300, 1), points(300, 2))) > 0.8


def test_distances_by_chunks_equal_the_plain_ones() -> None:
    a, b = points(25, 1), points(40, 2)
    plain = np.square(a[:, None].astype(float) - b[None]).sum(-1)
    np.testing.assert_allclose(squared_distances(a, b, chunk=7), plain, rtol=1e-5)
    assert (np.diag(squared_distances(a, a, chunk=7)) == 0).all()
    distance, where = nearest(a, b, chunk=9)
    assert (where == plain.argmin(1)).all()
    np.testing.assert_allclose(distance, np.sqrt(plain.min(1)))


def test_single_precision_ranks_as_double_precision() -> None:
    a, b = points(2100, 1, mean=5), points(300, 2, mean=5)
    plain = squared_distances(a, b)
    for rows, part in distances_by_chunk(a, b):
        np.testing.assert_allclose(part, plain[rows], atol=1e-4)


def test_more_images_than_one_chunk_give_the_same_numbers() -> None:
    real, other = points(1300, 1), points(1200, 2, mean=0.5)
    matrices = (squared_distances(real, real), squared_distances(other, other), squared_distances(real, other))
    assert precision_recall_density_coverage(real, other) == pytest.approx(coverage._four(*matrices, 5), abs=2e-3)


def test_a_copy_has_distance_zero_however_far_from_the_origin() -> None:
    candidates = points(50, 1) * np.float32(0.01) + np.float32(1000)
    distance, where = nearest(candidates[[7, 30]], candidates)
    assert distance.tolist() == [0, 0] and where.tolist() == [7, 30]


def test_intervals_of_the_excess_hold_zero_when_nothing_differs() -> None:
    """95 % of them should; fewer than 54 of 60 would be chance in one case in 20 at most."""
    held, nothing = dict.fromkeys((number.name for number in coverage.NUMBERS), 0), np.zeros((100, 1), np.float32)
    for seed in range(60):
        real, other, floor = (Sample(features=points(100, 3 * seed + k), thumbnails=nothing,
                                     histograms=nothing[:, None], patients=np.arange(100)) for k in range(3))
        pair = Comparison(real=real, synthetic=other, floor=floor, features="test")
        for one in coverage.measure(pair, repetitions=20, seed=seed):
            assert one.excess_low is not None and one.excess_high is not None
            held[one.name] += one.excess_low <= 0 <= one.excess_high
    assert min(held.values()) >= 54, held


def test_none_or_all_of_the_images_have_the_exact_interval_of_a_count() -> None:
    """Halves do not scatter there: 0 of 100 must not be told as 0 to 0."""
    nothing = np.zeros((100, 1), np.float32)

    def sample(seed: int, mean: float, patients: int = 100) -> Sample:
        return Sample(features=points(100, seed, mean), thumbnails=nothing, histograms=nothing[:, None],
                      patients=np.arange(100) % patients)

    pair = Comparison(real=sample(1, 0), synthetic=sample(2, 50), floor=sample(3, 0), features="test")
    precision, recall, _, covered = coverage.measure(pair, repetitions=20, seed=0)
    for one in (precision, recall, covered):
        assert (one.value, one.low) == (0, 0) and one.high == pytest.approx(1 - 0.025 ** (1 / 100))
    middle = dataclasses.replace(sample(2, 0), features=points(100, 2, scale=0.01))
    alike = coverage.measure(dataclasses.replace(pair, synthetic=middle), repetitions=20, seed=0)[0]
    assert (alike.value, alike.high) == (1, 1) and alike.low == pytest.approx(0.025 ** (1 / 100)), "nor all"
    few = coverage.measure(dataclasses.replace(pair, real=sample(1, 0, 5)), repetitions=20, seed=0)[0]
    assert few.high == pytest.approx(1 - 0.025 ** (1 / 5)), "five patients"

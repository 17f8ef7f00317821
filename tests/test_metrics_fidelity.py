from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from radsynth.metrics import Comparison, Sample, fidelity
from radsynth.metrics._frechet import frechet_of_parts, moments
from radsynth.metrics._kernel import indicators, kernel_distances
from radsynth.metrics.fidelity import frechet_distance, kernel_distance


def normal(n: int, d: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale + mean).astype(np.float32)


def as_sample(features: NDArray[np.float32], patients: NDArray[np.int64] | None = None) -> Sample:
    n = len(features)
    return Sample(features=features, thumbnails=np.zeros((n, 1), np.float32),
                  histograms=np.zeros((n, 1, 4), np.float32), patients=np.arange(n) if patients is None else patients)


class Flat(nn.Module):
    """A stand-in for Inception: the first numbers of an image are its features."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :12].float()


def test_frechet_distance_of_gaussians_has_its_closed_form() -> None:
    a, b = normal(40000, 3, 1), normal(40000, 3, 2, mean=2.0, scale=3.0)
    assert frechet_distance(a, b) == pytest.approx(3 * 2**2 + 3 * (3 - 1) ** 2, rel=0.02)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize(("n", "m", "d"), [(30, 50, 80), (200, 150, 20), (60, 200, 100)])
def test_frechet_distance_equals_the_matrix_square_root(n: int, m: int, d: int) -> None:
    from scipy.linalg import sqrtm

    a, b = normal(n, d, 1), normal(m, d, 2, mean=0.3, scale=1.4)
    a[:, 0] = b[:, 0] = 0  # a dead feature
    root = sqrtm(np.cov(a.T.astype(float)) @ np.cov(b.T.astype(float)))
    trace = np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * np.trace(root.real)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + trace
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-3)


def test_frechet_distance_to_itself_is_zero() -> None:
    a = normal(50, 80, 1)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-4)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_parity_with_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 200, (120, 3, 8, 8), generator=generator, dtype=torch.uint8)
    fake = torch.randint(20, 255, (120, 3, 8, 8), generator=generator, dtype=torch.uint8)
    fid = FrechetInceptionDistance(feature=Flat(), normalize=False)
    kid = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=120)
    for metric in (fid, kid):
        metric.update(real, real=True)
        metric.update(fake, real=False)
    a, b = Flat()(real).numpy(), Flat()(fake).numpy()
    assert frechet_distance(a, b) == pytest.approx(float(fid.compute()), rel=1e-3)
    assert kernel_distance(a, b) == pytest.approx(float(kid.compute()[0]), rel=1e-3)


def test_distances_of_halves_equal_the_plain_formula() -> None:
    a, b = normal(60, 30, 1), normal(60, 30, 2, mean=0.2)
    i, j = np.arange(0, 60, 2), np.arange(30)
    found = frechet_of_parts(a, b, [(i, j)])
    assert found[0] == pytest.approx(frechet_distance(a[i], b[j]), rel=1e-6)
    weights = (indicators([i], 60), indicators([j], 60))
    assert kernel_distances(a, b, *weights)[0] == pytest.approx(kernel_distance(a[i], b[j]), abs=1e-6)


def test_the_kernel_distance_equals_the_plain_formula_in_double_precision() -> None:
    """More rows than one chunk, far from the origin, as an image network's features are."""
    a, b = normal(1100, 30, 1, mean=1.0, scale=0.3), normal(1050, 30, 2, mean=1.0, scale=0.3)

    def kernel(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray((x.astype(float) @ y.T.astype(float) / 30 + 1) ** 3)

    def apart(k: NDArray[np.float64]) -> float:
        return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))

    expected = apart(kernel(a, a)) + apart(kernel(b, b)) - 2 * kernel(a, b).mean()
    assert kernel_distance(a, b) == pytest.approx(expected, abs=1e-6)


def test_covariances_by_chunks_equal_those_of_numpy() -> None:
    a = normal(5000, 7, 1, mean=3.0)
    mean, covariance = moments(a, chunk=999)
    np.testing.assert_allclose(mean, a.mean(0), rtol=1e-5)
    np.testing.assert_allclose(covariance, np.cov(a.T.astype(float)), rtol=1e-9, atol=1e-12)


def test_extrapolation_takes_out_most_of_the_bias() -> None:
    a, b = as_sample(normal(400, 40, 1)), as_sample(normal(400, 40, 2))
    full, extrapolated, kernel = fidelity._estimates(a, b, 20, 0)
    assert full.value > 1 and abs(extrapolated.value) < 0.3 * full.value
    assert kernel.low < 0 < kernel.high


@pytest.mark.parametrize("patients", [3, 5])
def test_extrapolation_minds_that_half_of_few_patients_is_less_than_half(patients: int) -> None:
    """A third of the images was taken for a half: distances of sets that do not differ came out far below 0."""
    owners = np.repeat(np.arange(patients), 20)
    found = []
    for seed in range(20):
        a, b = (normal(len(owners), 30, 2 * seed + side) for side in range(2))
        found.append([one.value for one in fidelity._estimates(as_sample(a, owners), as_sample(b), 12, seed)[:2]])
    full, extrapolated = np.mean(found, axis=0)
    assert abs(extrapolated) < 0.15 * full


def test_intervals_hold_what_they_promise() -> None:
    """Of 60 pairs of samples, 95 % intervals of the Frechet distance cover the mean over all pairs about 57 times."""
    pairs = ((as_sample(normal(100, 10, s)), as_sample(normal(100, 10, 1000 + s, mean=0.5))) for s in range(60))
    found = [fidelity._estimates(a, b, 16, seed)[0] for seed, (a, b) in enumerate(pairs)]
    truth = np.mean([one.value for one in found])
    covered = sum(one.low <= truth <= one.high for one in found)
    assert covered >= 52
    assert np.mean([one.high - one.low for one in found]) < 6 * np.std([one.value for one in found])


def test_images_of_one_patient_widen_the_interval() -> None:
    generator = np.random.default_rng(0)
    repeated = np.repeat(generator.normal(size=(20, 5)), 20, axis=0) + 0.1 * generator.normal(size=(400, 5))
    other = as_sample(normal(400, 5, 9))
    patients = np.repeat(np.arange(20), 20)
    alone = fidelity._estimates(as_sample(repeated.astype(np.float32)), other, 20, 0)[0]
    together = fidelity._estimates(as_sample(repeated.astype(np.float32), patients), other, 20, 0)[0]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_what_is_measured_are_these_distances_the_kernels_times_1000() -> None:
    sides = [as_sample(normal(60, 8, seed, mean=0.3 * seed)) for seed in range(3)]
    pair = Comparison(real=sides[0], synthetic=sides[2], floor=sides[1], features="test")
    frechet, _, kernel = fidelity.measure(pair, repetitions=12, seed=0)
    real, floor, made = (side.features for side in sides)
    assert (frechet.value, frechet.floor) == pytest.approx(
        (frechet_distance(real, made), frechet_distance(real, floor)))
    assert (kernel.value, kernel.floor) == pytest.approx(
        (1000 * kernel_distance(real, made), 1000 * kernel_distance(real, floor)), rel=1e-4)


def test_never_called_fid() -> None:
    assert not any("FID" in number.title or "fid" in number.name.split("_") for number in fidelity.NUMBERS)
    assert math.isfinite(kernel_distance(normal(5, 2, 1), normal(5, 2, 2)))

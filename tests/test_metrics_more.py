"""Formulas of the metrics with an own description, each against a closed form or another implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kurtosis, skew, wasserstein_distance

from radsynth.metrics import (
    Comparison,
    Estimate,
    Sample,
    _similarity,
    anatomy,
    difference,
    diversity,
    inception_score,
    radiomics,
    spectrum,
)
from radsynth.metrics._classifier import fit
from radsynth.metrics._features import shrink
from radsynth.metrics._paired import absolute_error, peak_signal_to_noise, structural_similarity


def smooth(n: int, seed: int, size: tuple[int, ...] = (48, 40), sigma: float = 2.0) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(n, 1, *size))
    blurred = gaussian_filter(noise, (0, 0, *[sigma] * len(size)))
    return np.clip(blurred / blurred.std() / 2, -1, 1).astype(np.float32)


def test_first_order_features_agree_with_scipy() -> None:
    images = smooth(3, 1)[:, 0]
    found, flat = radiomics.first_order(images), images.reshape(3, -1).astype(float)
    np.testing.assert_allclose(found[:, 2], flat.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 11], skew(flat, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[:, 12], kurtosis(flat, axis=1, fisher=False), rtol=1e-6)
    np.testing.assert_allclose(found[:, 13], flat.var(1), rtol=1e-6)


def test_first_order_features_have_their_definitions() -> None:
    """As pyradiomics has them, but for its energies: of values from -1, levels of 1/16."""
    image = smooth(2, 3)[1, 0]
    found, flat = radiomics.first_order(np.stack([image[::-1], image]))[1], image.ravel().astype(float)
    p10, p25, p75, p90 = np.percentile(flat, (10, 25, 75, 90))
    inner = flat[(flat >= p10) & (flat <= p90)]
    shares = np.histogram(flat, 32, (-1, 1))[0] / flat.size
    entropy = -sum(share * np.log2(share) for share in shares if share)
    np.testing.assert_allclose(found, [
        flat.min(), p10, flat.mean(), np.median(flat), p90, flat.max(), p75 - p25, np.ptp(flat),
        np.abs(flat - flat.mean()).mean(), np.abs(inner - inner.mean()).mean(), np.sqrt(np.square(flat + 1).mean()),
        skew(flat), kurtosis(flat, fisher=False), flat.var(), entropy, np.square(shares).sum()], rtol=1e-5, atol=1e-9)


def test_the_ratio_of_a_logarithm_is_that_of_what_it_is_taken_of() -> None:
    sides = [numbers(100, [3, k]) for k in range(3)]
    far = replace(sides[1], own=None if sides[1].own is None else sides[1].own + 3)
    one, = radiomics.measure(Comparison(real=sides[0], synthetic=far, floor=sides[2], features="test", own="test"),
                             repetitions=12, seed=0)
    assert one.ratio == pytest.approx(np.exp(one.value) / np.exp(one.floor)) and one.ratio > 4


def test_radiomics_distance_of_shifted_gaussians_has_its_closed_form() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(size=(20000, 4)).astype(np.float32) * 7 + 3
    b = generator.normal(size=(20000, 4)).astype(np.float32) * 7 + 10  # one deviation in each of four features
    assert radiomics.radiomics_distance(a, b) == pytest.approx(np.log(4), abs=0.05)


def test_one_image_that_sets_a_unit_does_not_make_the_interval_endless() -> None:
    """A feature that nearly all images share, as the brightest pixel: halves without the exceptions had no unit of it,
    so that the others' exceptions were hundreds of deviations away (a log distance of 1 was from -400 to 400)."""
    real, other, floor = (numbers(225, [5, k]) for k in range(3))
    for side in (real, other, floor):
        assert side.own is not None
        side.own[:, 0] = np.random.default_rng(1).normal(3, 1e-3, len(side.own))
        side.own[:3, 0] = 0
    one, = radiomics.measure(Comparison(real=real, synthetic=other, floor=floor, features="test", own="test"),
                             repetitions=30, seed=0)
    assert one.floor_high is not None and one.floor_low is not None and one.floor_high - one.floor_low < 10


def test_large_images_volumes_and_channels_are_described() -> None:
    assert radiomics.describe(smooth(2, 1, (200, 300))).shape == (2, 68)
    assert radiomics.describe(smooth(2, 1, (12, 14, 10))).shape == (2, 68)
    assert radiomics.describe(np.concatenate([smooth(2, 1), smooth(2, 2)], axis=1)).shape == (2, 136)
    assert anatomy.describe(smooth(2, 1, (12, 14, 10))).shape == (2, 10)
    assert spectrum.describe(smooth(2, 1, (12, 14, 10))).shape == (2, 1, 24)
    assert shrink(smooth(1, 1, (200, 300)), 4096)[0, 0].size <= 4096


def test_the_spectrum_of_a_wave_is_in_its_band() -> None:
    columns = np.arange(48)
    wave = np.tile(np.sin(2 * np.pi * columns / 8), (48, 1))[None, None].astype(np.float32)  # 1/8 of 1/2: band 6
    found = spectrum.describe(wave)[0, 0]
    others = np.delete(found, 6)
    assert found.argmax() == 6 and found[6] > others[others != 0].max() + 20  # 0: no wave of this image is there


def test_twice_the_amplitude_is_six_decibels() -> None:
    noise = (np.random.default_rng(0).normal(size=(20, 1, 32, 32)) * 0.1).astype(np.float32)
    gain = spectrum.describe(2 * noise) - spectrum.describe(noise)
    assert gain[spectrum.describe(noise) != 0].mean() == pytest.approx(20 * np.log10(2), abs=0.05)


@pytest.mark.parametrize("size", [(32, 30), (15, 21), (8, 10, 9)])
def test_a_band_is_the_mean_over_all_waves_of_its_length_whichever_way_they_run(size: tuple[int, ...]) -> None:
    """Of the waves that a real transform keeps those down the columns counted double."""
    images = smooth(3, 1, size, sigma=0.5)
    images = np.cumsum(images, axis=-1, dtype=np.float32) / 4  # smoother along the rows
    axes = tuple(range(2, images.ndim))
    power = np.square(np.abs(np.fft.fftn(images.astype(float), axes=axes)))[:, 0] / np.prod(size)
    radius = np.sqrt(sum(np.square(f) for f in np.meshgrid(*map(np.fft.fftfreq, size), indexing="ij")))
    found = spectrum.describe(images)[:, 0]
    for band in range(24):
        inside = (np.floor(48 * radius) == band) & (radius > 0)
        expected = 10 * np.log10(power[:, inside].mean(1) + spectrum.QUANTUM) if inside.any() else np.zeros(3)
        np.testing.assert_allclose(found[:, band], expected, atol=1e-4)


def test_two_thresholds_agree_with_scikit_image() -> None:
    from skimage.filters import threshold_multiotsu

    generator = np.random.default_rng(0)
    levels = np.concatenate([generator.normal(-0.7, 0.05, 500), generator.normal(0, 0.05, 300),
                             generator.normal(0.6, 0.05, 200)]).astype(np.float32)
    low, high = anatomy.multi_otsu(levels[None])
    expected = threshold_multiotsu(levels, 3)
    parts = [np.digitize(levels, bounds) for bounds in ((low[0], high[0]), expected)]
    assert (parts[0] == parts[1]).mean() > 0.99


def test_areas_symmetry_and_place_are_those_of_the_drawing() -> None:
    image = np.full((1, 1, 40, 40), -1, np.float32)
    image[0, 0, 10:30, 4:20] = 0.0
    image[0, 0, 15:25, 4:12] = 1.0
    share, middle, bright, symmetry, row, _, column, _ = anatomy.describe(image)[0]
    assert share == pytest.approx(20 * 16 / 1600) and bright == pytest.approx(80 / 320)
    assert middle == pytest.approx(240 / 320) and symmetry < 0.1
    assert (row, column) == (pytest.approx(20 / 40), pytest.approx(12 / 40))
    mirrored = np.concatenate([image[..., :20], image[..., 19::-1]], axis=-1)
    assert anatomy.describe(mirrored)[0, 3] == pytest.approx(1)


def test_wasserstein_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(400, 2)), generator.normal(size=(400, 2)) * 2 + 1
    expected = [wasserstein_distance(a[:, k], b[:, k]) for k in range(2)]
    np.testing.assert_allclose(anatomy.wasserstein(a, b), expected, rtol=0.02)


def test_ms_ssim_agrees_with_torchmetrics() -> None:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference

    x = smooth(3, 1, (192, 200), sigma=4)
    y = np.clip(x + 0.1 * smooth(3, 2, (192, 200)), -1, 1)
    found = _similarity.ms_ssim(x, y)
    for one, other, value in zip(x, y, found, strict=True):
        expected = reference(torch.from_numpy(one[None] + 1), torch.from_numpy(other[None] + 1), data_range=2.0,
                             betas=_similarity.SCALES, normalize="relu")
        # The reference pads the image's border at each scale; here the window stays inside.
        assert value == pytest.approx(float(expected), abs=0.02)
    np.testing.assert_allclose(_similarity.ms_ssim(x, x), 1, atol=1e-5)


@pytest.mark.parametrize("similar", [_similarity.ms_ssim, structural_similarity])
def test_structural_similarity_has_its_closed_forms(similar: Callable[..., NDArray[np.float64]]) -> None:
    """Wang et al. 2004, eq. 13, of values from 0 to 2: brightness counts at mid-grey as elsewhere."""
    flat = np.zeros((3, 1, 16, 16), np.float32)
    a, b = (flat + np.array(greys, np.float32)[:, None, None, None] for greys in ((-1, -0.5, 0.1), (-0.8, 0, -0.1)))
    light_a, light_b, c1, c2 = a[:, 0, 0, 0] + 1, b[:, 0, 0, 0] + 1, 0.02**2, 0.06**2
    expected = (2 * light_a * light_b + c1) / (light_a**2 + light_b**2 + c1)
    np.testing.assert_allclose(similar(b, a), expected, rtol=1e-4)
    assert similar(b, a)[2] > 0.9, "a little darker than mid-grey is like a little brighter"
    chequered = (0.05 * (-1.0) ** np.indices((16, 16)).sum(0)).astype(np.float32)[None, None]
    expected = (2 * 0.5 * 0.05**2 + c2) / ((1 + 0.5**2) * 0.05**2 + c2)
    np.testing.assert_allclose(similar(0.5 * chequered, chequered), expected, rtol=0.01)


def test_errors_of_pairs_have_their_closed_forms() -> None:
    truth, result = np.zeros((2, 2, 8, 8), np.float32), np.zeros((2, 2, 8, 8), np.float32)
    result[0], result[1, 0] = 0.5, -1
    assert absolute_error(result, truth).tolist() == [0.25, 0.25]
    assert peak_signal_to_noise(result, truth) == pytest.approx(10 * np.log10([4 / 0.25, 4 / 0.5]))
    assert peak_signal_to_noise(truth, truth) == pytest.approx(100)


def test_ms_ssim_of_small_images_and_volumes() -> None:
    for size in ((16, 16), (12, 12, 12)):
        x, y = smooth(4, 1, size), smooth(4, 2, size)
        assert (_similarity.ms_ssim(x, y) < 0.7).all() and _similarity.ms_ssim(x, x) == pytest.approx(1, abs=1e-5)
    assert diversity.applies((1, 11, 30)) and not diversity.applies((1, 10, 30))


def test_pairs_are_of_two_patients() -> None:
    """Real slices come several of a patient, synthetic ones do not: else real images would seem to vary less."""
    images = smooth(8, 1)
    few, nobody = np.repeat(images, 5, axis=0), np.zeros((40, 1), np.float32)
    sides = [Sample(features=nobody, thumbnails=nobody, histograms=nobody[:, None], patients=patients, own=few)
             for patients in (np.arange(40), np.repeat(np.arange(8), 5))]
    comparison = Comparison(real=sides[0], synthetic=sides[0], floor=sides[1], features="")
    [found] = diversity.measure(comparison, repetitions=10, seed=0)
    first, second = np.triu_indices(8, 1)
    assert found.floor == pytest.approx(_similarity.ms_ssim(images[first], images[second]).mean(), abs=0.02)
    assert found.value > found.floor + 0.05


def test_inception_score_has_its_closed_forms() -> None:
    sure = np.eye(5, dtype=np.float32)[np.arange(100) % 5]
    assert inception_score.inception_score(sure) == pytest.approx(5)
    assert inception_score.inception_score(np.tile(sure[:1], (100, 1))) == pytest.approx(1)
    assert inception_score.inception_score(np.full((100, 5), 0.2, np.float32)) == pytest.approx(1)


def test_the_classifier_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    features = (generator.normal(size=(300, 10)) + 1.5 * np.eye(3, 10)[labels]).astype(np.float32)
    found = fit(features, labels, ridge=1e-2, steps=200)
    standard = (features - features.mean(0)) / (features.std(0) + 1e-6)
    # scikit-learn's C is over the sum of losses and half the squares.
    expected = LogisticRegression(C=1 / (2 * 1e-2 * 300), tol=1e-8, max_iter=1000).fit(standard, labels)
    np.testing.assert_allclose(found.probabilities(features), expected.predict_proba(standard), atol=0.01)


def test_differences_are_paired_where_they_can_be() -> None:
    noise = np.random.default_rng(0).normal(size=30)
    one, other = (Estimate(value=v, low=v - 2, high=v + 2, parts=tuple(v + noise), units=30) for v in (5.0, 4.0))
    paired = difference(one, other)
    assert paired.value == 1 and paired.low == pytest.approx(1) and paired.high == pytest.approx(1)
    few = difference(replace(one, units=4), replace(other, parts=(4.0,) * 30))
    assert few.high - 1 == pytest.approx(3.1824463 * noise.std(ddof=1))  # Student's t of 4 patients
    alone = difference(Estimate(value=5, low=3, high=7), Estimate(value=4, low=2.5, high=5.5))
    assert (alone.low, alone.high) == (pytest.approx(1 - 2.5), pytest.approx(1 + 2.5))


def test_multi_scale_similarity_of_pairs_is_one_for_the_truth_and_falls_with_blur() -> None:
    from scipy.ndimage import gaussian_filter

    from radsynth.metrics._paired import multi_scale_similarity, structural_similarity

    truth = np.random.default_rng(0).uniform(-1, 1, (3, 2, 48, 48)).astype(np.float32)
    blurred = gaussian_filter(truth, (0, 0, 1, 1))
    assert multi_scale_similarity(truth, truth) == pytest.approx(1, abs=1e-5)
    assert (multi_scale_similarity(blurred, truth) < 0.9).all()
    assert np.isnan(multi_scale_similarity(truth[..., :10], truth[..., :10])).all()
    thin = truth[:, :, None].repeat(2, axis=2)
    assert np.isnan(structural_similarity(thin, thin)).all(), "a volume of two slices has no window"
    assert structural_similarity(truth[..., :3], truth[..., :3]) == pytest.approx(1)


def numbers(n: int, seed: list[int]) -> Sample:
    nothing = np.zeros((n, 1), np.float32)
    own = np.random.default_rng(seed).normal(size=(n, 20)).astype(np.float32)
    return Sample(features=nothing, thumbnails=nothing, histograms=nothing[:, None], patients=np.arange(n), own=own)


def test_intervals_of_the_radiomics_distance_hold_a_zero_excess() -> None:
    """The logarithm of a distance that is mostly bias: its half-samples scatter too little unless that is minded."""
    held = 0
    for seed in range(40):
        real, other, floor = (numbers(100, [seed, k]) for k in range(3))
        pair = Comparison(real=real, synthetic=other, floor=floor, features="test", own="test")
        one, = radiomics.measure(pair, repetitions=20, seed=seed)
        assert one.excess_low is not None and one.excess_high is not None
        held += one.excess_low <= 0 <= one.excess_high
    assert held >= 36

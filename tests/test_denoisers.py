"""Denoisers without a network: the level of noise is found, noise goes down, an image without noise stays."""

from __future__ import annotations

import numpy as np
import pytest

from radsynth.verbs._pairs.block_matching import block_matching
from radsynth.verbs._pairs.denoisers import denoisers, noise_level


def squares(size: int = 48) -> np.ndarray:
    row, column = np.ogrid[:size, :size]
    return ((row // 12 + column // 12) % 2 * 0.5 + 0.25 + 0.1 * np.sin(row / 5)).astype(np.float32)


def test_the_level_of_noise_is_found() -> None:
    noisy = squares(96) + np.random.default_rng(0).normal(0, 0.05, (96, 96)).astype(np.float32)
    assert noise_level(noisy) == pytest.approx(0.05, rel=0.1)
    assert noise_level(np.stack([noisy, noisy])) == pytest.approx(0.05, rel=0.1)


def test_a_background_without_noise_does_not_count() -> None:
    """Around a stripped skull most pixels are 0: the level was 0, and every denoiser left images as they were."""
    noisy = squares(96) + np.random.default_rng(0).normal(0, 0.05, (96, 96)).astype(np.float32)
    noisy[:70] = 0
    assert noise_level(noisy) == pytest.approx(0.05, rel=0.15)
    assert noise_level(np.zeros((8, 8), np.float32)) < 1e-3


def test_block_matching_takes_noise_away_and_leaves_what_is_clean() -> None:
    clean = squares()
    assert np.abs(block_matching(clean, 1e-4) - clean).max() < 1e-3
    noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape).astype(np.float32)
    error = [np.square(image - clean).mean() for image in (noisy, block_matching(noisy, 0.1))]
    assert 10 * np.log10(error[0] / error[1]) > 8, "less than 8 dB better"


@pytest.mark.parametrize("space", [(40, 40), (3, 40, 40)])
def test_every_denoiser_is_better_than_nothing_in_its_bias_too(space: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    clean = np.broadcast_to(np.maximum(squares(40) - 0.25, 0), (1, 1, *space)).astype(np.float32)  # air: biased
    noisy = np.hypot(clean + rng.normal(0, 0.08, clean.shape), rng.normal(0, 0.08, clean.shape)).astype(np.float32)
    given, truths = noisy * 2 - 1, clean * 2 - 1
    for name, method in denoisers(given, truths).items():
        made = method(given)
        assert made.shape == given.shape and made.dtype == np.float32
        assert np.square(made - truths).mean() < 0.5 * np.square(given - truths).mean(), name
        assert made.min() >= -1.01

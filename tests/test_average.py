"""The averaged generator against the closed form of its profile."""

import numpy as np
import pytest
import torch
from torch import nn

from radsynth.verbs._training.average import Average, exponent


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_exponent_gives_the_profile_its_width(width: float) -> None:
    power = exponent(width)
    t = np.linspace(0, 1, 100_001)
    weight = t**power / np.sum(t**power)
    mean = np.sum(weight * t)
    assert np.sqrt(np.sum(weight * (t - mean) ** 2)) == pytest.approx(width, rel=1e-3)


def test_the_average_is_the_power_weighted_mean_of_all_steps() -> None:
    network = nn.BatchNorm1d(1)
    average = Average(network, 0.1)
    values = np.linspace(3, 7, 500)
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            network.weight.fill_(value)
            network.running_mean.fill_(value)
        average.update(network, step, 1, step)
    weight = np.arange(1, 501) ** exponent(0.1)
    expected = np.sum(weight * values) / np.sum(weight)
    assert float(average.network.weight) == pytest.approx(expected, rel=2e-3)
    assert float(average.network.running_mean) == 7, "statistics are copied"
    assert not average.network.training


@pytest.mark.parametrize("apart", [70, 72])  # just after a moment when it is taken in, and at one
def test_batches_that_grow_count_by_their_images(apart: int) -> None:
    network = nn.BatchNorm1d(1)
    average = Average(network, 0.1)
    sizes = [1] * apart + [64] * 1300
    images = np.cumsum(sizes)
    for step, (size, seen) in enumerate(zip(sizes, images, strict=True), start=1):
        with torch.no_grad():
            network.weight.fill_(float(seen))
        average.update(network, step, size, int(seen))
    power = exponent(0.1)
    expected = (power + 1) / (power + 2) * images[-1]  # the mean of t over the profile (power + 1) t^power
    assert float(average.network.weight) == pytest.approx(expected, rel=0.005)

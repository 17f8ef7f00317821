"""Checks without a truth: they notice findings that a network removed or invented, and stay quiet about honest work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from radsynth.image import ImageSpec
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._applying.doubts import doubts
from radsynth.verbs._applying.limits import flags, limits
from radsynth.verbs._pairs.overlays import columns

Images = NDArray[np.float32]


def task_of(*overrides: str, **spec: Any) -> Any:
    settings = resolve(overrides=overrides, sections=("task", "model"))
    return build(settings, ImageSpec(size=(32, 32), **spec))


def heads(n: int, lesion: float) -> Images:
    """Soft discs, each with a small bright spot of its own place."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    images = []
    for _ in range(n):
        head = np.where(np.hypot(rows - 16, columns - 16) < 12, 0.0, -1.0)
        spot = np.hypot(rows - rng.integers(12, 20), columns - rng.integers(12, 20)) < 2.5
        images.append(gaussian_filter(np.where(spot, head + lesion, head), 0.6))
    return np.stack(images)[:, None].astype(np.float32)


def measured(task: Any, network: Any, given: Images, target: str = "") -> list[dict[str, float]]:
    found = doubts(task, network, given, network(given, target), target)
    return [{name: float(values[k]) for name, values in found.items()} for k in range(len(given))]


@pytest.mark.parametrize("damage", ["removed", "invented"])
def test_a_removed_or_invented_lesion_is_flagged(damage: str) -> None:
    task = task_of("task.kind=restore", "task.what=rician")
    clean, ill = heads(20, 0.0), heads(20, 0.8)
    before, after = (ill, clean) if damage == "removed" else (clean, ill)
    usual = limits(doubts(task, lambda images, target: images * 0.98, before, before * np.float32(0.98)), np.arange(20))
    assert set(usual) == {"edges", "uncertainty"}, "noise removal has no way back"
    honest = measured(task, lambda images, target: images * 0.97, before[:10])
    damaged = measured(task, lambda images, target: after[:len(images)], before[:10])
    assert all("edges" in flags(one, usual) for one in damaged)
    assert not any("edges" in flags(one, usual | {"edges": 2 * usual["edges"] + 1}) for one in honest)


def test_a_result_that_is_not_what_was_given_when_made_coarse_again_is_inconsistent() -> None:
    task = task_of("task.kind=restore", "task.factor=2")
    given = heads(4, 0.5)

    def honest(images: Images, target: str) -> Images:
        return np.asarray(images.repeat(2, axis=2).repeat(2, axis=3))

    def inventive(images: Images, target: str) -> Images:
        made = honest(images, target)
        made[:, :, 30:38, 30:38] += 0.6
        return made

    assert all(one["inconsistency"] < 1e-4 for one in measured(task, honest, given))
    assert all(one["inconsistency"] == pytest.approx(30, rel=0.1) for one in measured(task, inventive, given))
    # In the mean over 32 x 32 pixels: 4 x 4 of them are off by 0.6 of a range of 2.
    assert all(one["mean_inconsistency"] == pytest.approx(30 * 16 / 1024, rel=1e-3) for one in measured(
        task, inventive, given))
    found = doubts(task, inventive, given, inventive(given, ""))
    usual = limits(found, np.arange(4))
    assert "mean_inconsistency" in usual
    assert columns(usual) == ["given", "result", "inconsistency", "edges", "uncertainty"]


def test_there_and_back_again_of_an_unpaired_translation() -> None:
    task = task_of("task.kind=cycle", labels=("healthy", "ill"))
    ill, healthy = heads(3, 0.8), heads(3, 0.0)

    def forgetful(images: Images, target: str) -> Images:
        return healthy[:len(images)] if target == "healthy" else images

    assert all(one["inconsistency"] > 10 for one in measured(task, forgetful, ill, "healthy"))
    assert all(one["inconsistency"] == 0 for one in measured(task, lambda images, target: images, ill, "healthy"))


def test_uncertainty_is_the_change_under_noise() -> None:
    task = task_of("task.kind=restore", "task.what=rician")
    given = heads(3, 0.5)
    steady = measured(task, lambda images, target: np.zeros_like(images), given)
    shaky = measured(task, lambda images, target: 3 * images, given)
    plain = measured(task, lambda images, target: images, given)
    assert all(one["uncertainty"] == 0 for one in steady)
    for three, one in zip(shaky, plain, strict=True):
        assert three["uncertainty"] == pytest.approx(3 * one["uncertainty"], rel=1e-3)

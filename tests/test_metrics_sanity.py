"""Every metric on images whose fault is known: the same kind of images is at the floor, and noise, blur, collapse and
copies move the right numbers the right way. Fast on drawn heads, slow on the embedded cohort of virtual patients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from radsynth.verbs._evaluating.measuring import Scale
from radsynth.verbs._evaluating.sides import Source
from radsynth.verbs.evaluate import Settings
from tests.compared import compare

Array = NDArray[np.float32]
OPTIONS = Settings(repetitions=12, pairs=0, classes=False)
DISTANCES = ("frechet_distance", "kernel_distance", "radiomics_distance", "spectrum_distance", "intensity_distance",
             "area_distance", "tissue_distance", "symmetry_distance", "position_distance", "pair_likeness")


def heads(n: int, seed: int) -> Array:
    """(n, 1, 40, 40) ellipses with a rim, two dark ventricles, a texture and noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :40] - 19.5
    place, axes = generator.uniform(-2, 2, (n, 2, 1, 1)), generator.uniform((12, 10), (17, 14), (n, 2))[..., None, None]
    radius = np.sqrt(((y - place[:, 0]) / axes[:, 0]) ** 2 + ((x - place[:, 1]) / axes[:, 1]) ** 2)
    texture = gaussian_filter(generator.normal(size=(n, 40, 40)), (0, 1.5, 1.5))
    images = np.where(radius < 1, generator.uniform(0.0, 0.3, (n, 1, 1)) + 0.5 * texture, -1.0)
    images = np.where((radius < 1) & (radius > 0.85), 0.8, images)
    width = generator.uniform(1.5, 4, (n, 1, 1))
    for side in (-4, 4):
        hole = ((y - place[:, 0]) / (2 * width)) ** 2 + ((x - place[:, 1] - side) / width) ** 2
        images = np.where(hole < 1, -0.6, images)
    return np.clip(images + 0.03 * generator.normal(size=images.shape), -1, 1)[:, None].astype(np.float32)


def blurred(images: Array, sigma: float = 1.0) -> Array:
    return np.asarray(gaussian_filter(images, (0, 0, sigma, sigma)), dtype=np.float32)


def noisy(images: Array, sigma: float) -> Array:
    return np.clip(images + sigma * np.random.default_rng(9).normal(size=images.shape), -1, 1).astype(np.float32)


def shifted(images: Array) -> Array:
    return np.roll(images, 5, axis=-1)


def numbers(*sides: Array | Source, out: Path | None = None, **more: Any) -> dict[str, dict[str, Any]]:
    """out: where features are kept, so that the real sides are looked at once."""
    results = compare(*sides, settings=OPTIONS, out=out, **more)
    return {one["name"]: one for one in results["measurements"]}


def beyond(one: dict[str, Any]) -> bool:
    """Above the floor by more than chance."""
    return bool(one["excess_low"] > 0)


@pytest.fixture(scope="module")
def sides() -> tuple[Array, Array, Array]:
    return heads(90, 1), heads(120, 2), heads(90, 3)


def check_alike(found: dict[str, dict[str, Any]]) -> None:
    for name in DISTANCES:
        one = found[name]
        assert one["excess_low"] <= 0 <= one["excess_high"], f"{name}: {one}"
    assert found["precision"]["value"] > 0.75 and found["coverage"]["value"] > 0.75
    assert found["copies"]["value"] == 0


def check_faults(held_out: Array, training: Array, alike: Array, out: Path, noise: float = 0.15) -> None:
    wrong = numbers(held_out, training, blurred(alike), out=out)
    assert all(beyond(wrong[name]) for name in ("frechet_distance", "kernel_distance", "radiomics_distance",
                                                "spectrum_distance"))
    assert wrong["spectrum_distance"]["value"] > 3 and wrong["precision"]["excess_high"] < 0
    wrong = numbers(held_out, training, noisy(alike, noise), out=out)
    assert all(beyond(wrong[name]) for name in ("frechet_distance", "kernel_distance", "radiomics_distance",
                                                "spectrum_distance", "intensity_distance"))
    assert wrong["precision"]["excess_high"] < 0
    # Of the cohort the same slice of three patients: those of one patient are less alike than a pair at random.
    few = np.tile(alike[1:9:3], (-(-len(alike) // 3), 1, 1, 1))[: len(alike)]
    wrong = numbers(held_out, training, few, out=out)
    assert beyond(wrong["pair_likeness"]) and beyond(wrong["frechet_distance"])
    assert wrong["recall"]["excess_high"] < 0 and wrong["coverage"]["excess_high"] < 0
    wrong = numbers(held_out, training, training[: len(alike)], out=out)
    assert wrong["copies"]["value"] == 1 and wrong["training_distance"]["value"] == 0
    wrong = numbers(held_out, training, shifted(alike), out=out)
    assert beyond(wrong["position_distance"]) and wrong["intensity_distance"]["excess_low"] <= 0


def test_the_same_kind_of_images_is_at_the_floor(sides: tuple[Array, Array, Array]) -> None:
    check_alike(numbers(*sides))


def test_every_fault_moves_the_right_numbers(sides: tuple[Array, Array, Array], tmp_path: Path) -> None:
    check_faults(*sides, tmp_path)


def test_the_inception_score_sees_missing_classes(tmp_path: Path) -> None:
    def two(n: int, seed: int) -> Source:
        labels = np.arange(n) % 2
        return Source(images=np.where(labels[:, None, None, None] == 1, -heads(n, seed), heads(n, seed)), labels=labels)

    held_out, training, alike = two(60, 1), two(100, 2), two(60, 3).images
    more: dict[str, Any] = {"out": tmp_path, "scale": Scale(labels=("bright", "dark"))}
    whole = numbers(held_out, training, alike, **more)["inception_score"]
    assert "trained on 100 real training images" in whole["features"] and whole["value"] > 1.9
    missing = numbers(held_out, training, heads(60, 4), **more)["inception_score"]
    assert missing["value"] < 1.3 and missing["excess_high"] < 0
    assert "inception_score" not in numbers(held_out.images, training.images, alike, out=tmp_path)


def test_a_classifier_that_guesses_gives_no_inception_score() -> None:
    held_out, training = (Source(images=heads(n, seed), labels=np.arange(n) % 2) for n, seed in ((60, 1), (100, 2)))
    results = compare(held_out, training, heads(60, 3), settings=OPTIONS, scale=Scale(labels=("one", "other")))
    assert "inception_score" not in {one["name"] for one in results["measurements"]}
    refused = next(one for one in results["refused"] if one["name"] == "inception_score")
    assert "no more than by chance or by always naming the commonest" in refused["reason"]
    assert "100 real images" in refused["reason"]


@pytest.mark.slow
def test_volumes_have_numbers_of_their_own() -> None:
    def volumes(n: int, seed: int, sigma: float = 1.2) -> Array:
        noise = np.random.default_rng(seed).normal(size=(n, 1, 14, 16, 16))
        return np.clip(3 * gaussian_filter(noise, (0, 0, sigma, sigma, sigma)), -1, 1).astype(np.float32)

    held_out, training = volumes(50, 1), volumes(50, 2)
    alike, smooth = (numbers(held_out, training, volumes(50, 3, sigma)) for sigma in (1.2, 1.8))
    for name in ("frechet_distance_first_axis", "frechet_distance_third_axis", "radiomics_distance",
                 "spectrum_distance"):
        assert not beyond(alike[name]) and beyond(smooth[name]), name

    few, others = volumes(16, 4), volumes(16, 5)  # what 80 volumes leave to measure on
    alike, smooth = (numbers(few, others, volumes(16, 6, sigma)) for sigma in (1.2, 1.8))
    assert "frechet_distance" not in alike
    assert not beyond(alike["frechet_distance_first_axis"]) and beyond(smooth["frechet_distance_first_axis"])


@pytest.mark.slow
def test_the_embedded_cohort(tmp_path: Path) -> None:
    """The same on virtual patients: three groups of other patients, and the faults on the third."""
    from radsynth.datasets.brain import Settings as Cohort
    from radsynth.datasets.brain import records

    pixels = np.stack([record.load().pixels for record in records(Cohort(patients=90, slices=3, size=(48, 48)), [])])
    high = np.percentile(pixels, 99.5)
    images = np.clip(pixels / high * 2 - 1, -1, 1).astype(np.float32)
    held_out, training, alike = images[:90], images[90:180], images[180:]
    found = numbers(Source(images=held_out, patients=np.arange(90) // 3),
                    Source(images=training, patients=100 + np.arange(90) // 3), alike)
    for name in DISTANCES:
        assert found[name]["excess_low"] <= 0 <= found[name]["excess_high"], f"{name}: {found[name]}"
    # Patients differ in brightness by as much as noise of 0.15 moves the histogram: the interval says so.
    check_faults(held_out, training, alike, tmp_path, noise=0.4)

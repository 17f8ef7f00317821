from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from radsynth.errors import DataError
from radsynth.metrics import Comparison, Measurement, Sample, neighbours


def sample(n: int, seed: int, scale: float = 1.0) -> Sample:
    generator = np.random.default_rng(seed)
    return Sample(features=(scale * generator.normal(size=(n, 20))).astype(np.float32),
                  thumbnails=generator.uniform(-1, 1, (n, 30)).astype(np.float32),
                  histograms=np.full((n, 1, 4), 0.25, np.float32), patients=np.arange(n))


def comparison(copied: int, n: int = 200) -> Comparison:
    """`copied` of the n synthetic images are training images with a little noise."""
    training, made = sample(600, 1), sample(n, 2)
    noise = np.random.default_rng(9).normal(size=(n, 20)).astype(np.float32) * np.float32(0.01)
    features, thumbnails = made.features.copy(), made.thumbnails.copy()
    features[:copied] = training.features[:copied] + noise[:copied]
    thumbnails[:copied] = training.thumbnails[:copied]
    synthetic = dataclasses.replace(made, features=features, thumbnails=thumbnails)
    return Comparison(real=sample(n, 3), synthetic=synthetic, floor=training.take(np.arange(n)), training=training,
                      features="test")


def measure(pair: Comparison) -> dict[str, Measurement]:
    return {one.name: one for one in neighbours.measure(pair, repetitions=20, seed=0)}


def test_copies_are_counted() -> None:
    found = measure(comparison(copied=40))
    for name in ("near_copies_features", "near_copies_pixels"):
        assert found[name].value == pytest.approx(0.2, abs=0.06)
        assert found[name].low > found[name].floor_high
    assert found["near_copies_pixels"].features == "" and found["near_copies_features"].features == "test"


def test_without_copies_the_share_is_at_the_floor() -> None:
    found = measure(comparison(copied=0))
    for name in ("near_copies_features", "near_copies_pixels"):
        assert found[name].floor == pytest.approx(2 / 201)
        assert found[name].low <= found[name].floor and found[name].value < 0.08
    assert (found["copies"].value, found["copies"].floor) == (0, 0), "the nearest of all is no copy by that alone"
    ratio = found["training_distance"]
    assert ratio.floor == 1 and ratio.low < 1 < ratio.high


def test_everything_copied_brings_the_distance_to_zero() -> None:
    assert measure(comparison(copied=200))["training_distance"].value < 0.05


def test_duplicates_in_the_source_count_as_chance() -> None:
    """Held-out images that are in the training set too make distance 0 ordinary: it must show in the floor."""
    pair = comparison(copied=0)
    assert pair.training is not None
    features, thumbnails = pair.real.features.copy(), pair.real.thumbnails.copy()
    features[:20], thumbnails[:20] = pair.training.features[:20], pair.training.thumbnails[:20]
    found = measure(dataclasses.replace(pair, real=dataclasses.replace(pair.real, features=features,
                                                                       thumbnails=thumbnails)))
    assert found["near_copies_features"].floor == pytest.approx(20 / 201)


def test_distances_are_numbers_where_half_of_the_images_are_blank() -> None:
    """The unit, their median distance, is 0 then, or 0 of some halves: intervals were from minus to plus infinity."""
    pair = comparison(copied=0)
    assert pair.training is not None
    real, training = ({name: getattr(side, name).copy() for name in ("features", "thumbnails")}
                      for side in (pair.real, pair.training))
    for part in (*real.values(), *training.values()):
        part[:100] = -1
    blank = dataclasses.replace(pair, real=dataclasses.replace(pair.real, **real),
                                training=dataclasses.replace(pair.training, **training))
    for one in measure(blank).values():
        json.dumps(one.to_json(), allow_nan=False)
    assert all(np.isfinite(near.distance) for near in neighbours.closest_pairs(blank, 5))


@pytest.mark.parametrize("known", [1, 2])
def test_one_patient_under_two_names_does_not_hide_copies(known: int) -> None:
    """A held-out image that is in the training set as well has distance 0: nothing is less than half of that."""
    pair = comparison(copied=40)
    assert pair.training is not None
    features, thumbnails = pair.real.features.copy(), pair.real.thumbnails.copy()
    features[:known], thumbnails[:known] = pair.training.features[:known], pair.training.thumbnails[:known]
    found = measure(dataclasses.replace(pair, real=dataclasses.replace(pair.real, features=features,
                                                                       thumbnails=thumbnails)))
    assert found["copies"].value == 0.2 and found["copies"].floor == known / 200


def test_closest_pairs_name_the_copies_and_their_sources() -> None:
    pairs = neighbours.closest_pairs(comparison(copied=5), 5)
    assert sorted((pair.synthetic, pair.training) for pair in pairs) == [(i, i) for i in range(5)]
    assert all(pair.rarity == 0 and pair.distance < 0.1 for pair in pairs)


def test_without_training_images_copies_cannot_be_ruled_out() -> None:
    with pytest.raises(DataError, match="training images"):
        measure(dataclasses.replace(comparison(0), training=None))


def test_intervals_of_the_excess_hold_zero_when_nothing_is_copied() -> None:
    """95 % of them should: of 60 independent comparisons fewer than 54 would be chance in one case in 20 at most."""
    names = ("near_copies_features", "near_copies_pixels", "training_distance")
    held = dict.fromkeys(names, 0)
    for seed in range(60):
        sides = [sample(120, 1000 * seed + k) for k in range(4)]
        pair = Comparison(real=sides[0], synthetic=sides[1], floor=sides[2], training=sides[3], features="test")
        found = {one.name: one for one in neighbours.measure(pair, repetitions=20, seed=seed)}
        for name in names:
            low, high = found[name].excess_low, found[name].excess_high
            assert low is not None and high is not None
            held[name] += low <= 0 <= high
    assert min(held.values()) >= 54, held


def test_the_threshold_lies_between_images_where_one_percent_is_no_whole_number() -> None:
    distances = np.arange(1.0, 151.0)
    assert neighbours._threshold(distances) == pytest.approx(1.5)
    assert neighbours._expected_share(distances, np.arange(150)) == pytest.approx(1.5 / 151)
    assert neighbours._threshold(distances[:50]) == 1


def test_what_chance_gives_is_measured_on_other_patients_where_slices_are_alike() -> None:
    """The nearest 1 % of few patients' images are of one patient: more of another's are as near."""
    generator = np.random.default_rng(0)

    def distances(patients: int) -> NDArray[np.float64]:
        return np.asarray(3 + generator.normal(size=(patients, 1)) + generator.normal(size=(patients, 20))).ravel()

    real, owner = [distances(10) for _ in range(300)], np.repeat(np.arange(10), 20)
    chance = np.mean([neighbours._share_closer(distances(1000), one) for one in real])
    told = np.mean([neighbours._expected_share(one, owner) for one in real])
    assert chance > 0.0135, "with 1 % the nearness of slices would look like copying"
    assert told == pytest.approx(chance, abs=0.002)

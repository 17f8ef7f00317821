"""The numbers of a reader study against closed forms and published examples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radsynth.metrics._readers import area, fleiss_kappa, pooled, read, wilson
from radsynth.web.study import READER, _words


def test_wilson_against_a_published_interval() -> None:
    found = wilson(81, 263)  # Newcombe 1998, table I, method 3: 0.2553 to 0.3662
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    for n in range(1, 101):
        assert wilson(0, n).low == 0 < wilson(0, n).high and wilson(n, n).low < 1 == wilson(n, n).high


def test_the_area_is_the_one_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    ratings, truth = rng.integers(1, 7, 80), rng.random(80) < 0.4
    assert area(ratings, truth) == pytest.approx(roc_auc_score(truth, ratings))
    assert np.isnan(area(ratings, np.ones(80, bool)))


def test_kappa_against_the_definition() -> None:
    calls = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1]], bool)
    agreeing = (1 + 1 / 3 + 1 + 1 / 3) / 4
    expected = 0.5**2 + 0.5**2
    assert fleiss_kappa(calls) == pytest.approx((agreeing - expected) / (1 - expected))
    assert fleiss_kappa(np.array([[1, 0, 1], [1, 0, 1]], bool)) == pytest.approx(1)
    assert np.isnan(fleiss_kappa(calls[:1])) and np.isnan(fleiss_kappa(np.ones((3, 4), bool)))


def test_a_reader_who_knows_and_readers_who_guess() -> None:
    truth = np.arange(60) % 2 == 0
    knows = read("a", np.where(truth, 6, 1), truth)
    assert knows.accuracy.value == 1 and knows.area == 1 and knows.taken_for_real.value == 0
    rng = np.random.default_rng(1)
    accuracy, ranked = pooled(rng.integers(1, 7, (6, 60)), truth)
    assert accuracy.low < 0.5 < accuracy.high and ranked.low < 0.5 < ranked.high


@pytest.mark.parametrize("readers", [1, 3, 6, 7])  # sixths and sevenths are no binary fractions
def test_readers_who_are_always_right_have_an_interval(readers: int) -> None:
    truth = np.arange(20) < 8
    accuracy, ranked = pooled(np.tile(np.where(truth, 6, 1), (readers, 1)), truth)
    assert (accuracy.value, accuracy.high, accuracy.low) == (1, 1, wilson(20, 20).low)
    assert (ranked.value, ranked.high, ranked.low, ranked.n) == (1, 1, wilson(8, 8).low, 20 * readers)


def test_readers_who_call_every_image_real_have_the_area_of_chance() -> None:
    """Half of an odd number of images was rounded: an area of 0.40."""
    _, ranked = pooled(np.ones((2, 10), np.int64), np.arange(10) < 5)
    assert ranked.value == 0.5 and ranked.high - 0.5 == pytest.approx(0.5 - ranked.low) and ranked.n == 20
    accuracy, _ = pooled(np.ones((5, 13), np.int64), np.arange(13) < 7)  # of 6 of 13 each the interval was 46 to 46 %
    assert accuracy.value == 6 / 13 and (accuracy.low, accuracy.high) == (wilson(6, 13).low, wilson(6, 13).high)


@pytest.mark.parametrize(("real", "made", "words"), [
    ((1, 2), (2, 3), "But synthetic images were rated more synthetic than real ones"),  # all are called real
    ((1, 6), (1, 6), "no proof that the images cannot be told apart"), ((1, 1), (6, 6), "is better than guessing"),
    ((6, 6), (1, 1), "worse than guessing")])
def test_words_follow_from_the_intervals(real: tuple[int, int], made: tuple[int, int], words: str) -> None:
    truth = np.arange(60) % 2 == 0
    ratings = np.where(truth, np.resize(np.repeat(made, 2), 60), np.resize(np.repeat(real, 2), 60))
    accuracy, ranked = pooled(ratings[None], truth)
    assert words in _words([read("a", ratings, truth)], accuracy, ranked)


def test_the_pooled_interval_covers_the_truth() -> None:
    """Readers of an accuracy of 0.7 on the average, each with an own skill, images each with an own difficulty."""
    truth, covered = np.arange(50) % 2 == 0, 0
    for k in range(40):
        rng = np.random.default_rng(k)
        chance = np.clip(0.7 + rng.normal(0, 0.05, (8, 1)) + rng.normal(0, 0.08, (1, 50)), 0, 1)
        right = rng.random((8, 50)) < chance
        accuracy, _ = pooled(np.where(right == truth, 6, 1), truth, seed=k)
        covered += accuracy.low <= 0.7 <= accuracy.high
    assert covered >= 36


@pytest.mark.parametrize(("code", "allowed"), [("reader-1", True), ("Truth", False), ("-1", False), ("truthful", True),
                                               ("a b", False), ("=1", False)])
def test_no_reader_is_called_as_the_truth_is_in_the_table(code: str, allowed: bool) -> None:
    assert bool(READER.fullmatch(code)) is allowed

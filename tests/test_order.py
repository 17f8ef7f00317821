"""The order of training images: whole epochs, classes evened out, the same whoever asks."""

import numpy as np
import pytest

from radsynth.verbs._training.order import Order, shown

LABELS = np.array([0] * 90 + [1] * 9 + [2])


def epoch(balance: float, number: int = 0, seed: int = 3) -> np.ndarray:
    order, n = Order(LABELS, balance, seed), len(LABELS)
    return np.array([order(item) for item in range(number * n, (number + 1) * n)])


def test_without_balance_an_epoch_is_every_image_once() -> None:
    assert sorted(epoch(0)) == list(range(100))
    assert (epoch(0) == np.random.default_rng([3, 0]).permutation(100)).all(), "the order of earlier versions"


@pytest.mark.parametrize(("balance", "expected"), [(0.5, [70, 22, 8]), (1.0, [33, 34, 33])])
def test_classes_are_shown_by_the_power_of_their_number(balance: float, expected: list[int]) -> None:
    assert list(shown(LABELS, balance).values()) == pytest.approx(expected, abs=1)
    for number in (0, 7):
        found = epoch(balance, number)
        assert np.bincount(LABELS[found]).tolist() == list(shown(LABELS, balance).values())
        often = np.bincount(found, minlength=100)
        for label in range(3):
            of_class = often[label == LABELS]
            assert of_class.max() - of_class.min() <= 1, "images of a class are shown equally often"


def test_epochs_differ_and_leave_out_other_images() -> None:
    first, second = epoch(1.0, 0), epoch(1.0, 1)
    assert not np.array_equal(first, second)
    assert set(first[LABELS[first] == 0]) != set(second[LABELS[second] == 0])


def test_an_item_is_the_same_image_whatever_was_asked_before() -> None:
    order = Order(LABELS, 0.5, 0)
    later = [order(item) for item in (5, 250, 7)]
    fresh = Order(LABELS, 0.5, 0)
    assert [fresh(250), fresh(5), fresh(7)] == [later[1], later[0], later[2]]

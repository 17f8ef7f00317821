"""What the training doctor concludes from examinations that are made by hand; `test_doctor.py` has whole trainings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from radsynth.verbs._training.examination import Found
from radsynth.verbs._training.illnesses import (
    ALIKE,
    CERTAIN,
    OVERFIT,
    OVERFITS,
    STRONG_EXAMINATIONS,
    WORSE_EXAMINATIONS,
    Signs,
    collapsed,
    only_worse,
    overfit,
    overfits_still,
    too_strong,
)


def test_overfitting_is_how_far_held_out_images_are_rated_towards_generated_ones() -> None:
    signs = Signs(trained=2.0, held_out=1.0, generated=-2.0, spread=1.0, certainty=0.9)
    assert overfit(signs, held_out=True) == (0.25, OVERFIT)  # ADA's equation 1
    assert overfit(replace(signs, held_out=-2.0), held_out=True)[0] == 1
    assert overfit(replace(signs, spread=9.0), held_out=True)[0] == 0, "where nothing is told apart"
    assert overfit(signs, held_out=False) == (0.9, CERTAIN)


def test_the_strongest_augmentation_is_not_enough_after_some_examinations_in_a_row() -> None:
    signs = Signs()
    expected = [False] * (OVERFITS - 1) + [True]
    assert [overfits_still(signs, 0.7, 0.4, strongest=True) for _ in expected] == expected
    for strongest, sign in ((True, 0.7), (True, 0.5), (False, 0.7)) * OVERFITS:
        assert not overfits_still(signs, sign, 0.4, strongest), "not in a row"


def test_examinations_are_averaged_and_certainty_is_of_all_pairs() -> None:
    signs = Signs()
    logits = {"trained": torch.tensor([1.0, 3.0]), "held_out": torch.tensor([0.0]),
              "generated": torch.tensor([-1.0, 2.0])}
    signs.take(Found(logits=logits, varieties={"": 0.5}, distance=0.8))
    assert (signs.trained, signs.held_out, signs.generated, signs.distance) == (2.0, 0.0, 0.5, pytest.approx(0.8))
    assert signs.certainty == 0.5, "three pairs of four are in order, one is not"
    assert not signs.lost
    logits = {name: values + 4 for name, values in logits.items()}
    signs.take(Found(logits=logits, varieties={"": ALIKE / 2}, distance=0.4))
    assert (signs.trained, signs.distance) == (3.0, pytest.approx(0.6)) and signs.lost


def test_the_group_whose_samples_are_most_alike_is_named_when_they_stay_so() -> None:
    signs, few = Signs(), {"": 0.6, "small": 0.2, "large": 0.1}
    assert [collapsed(signs, few, progress=0.05) for _ in range(3)] == [None] * 3, "at first they are nothing yet"
    assert [collapsed(signs, few, progress=0.5) for _ in range(2)] == [None, "large"]
    assert collapsed(signs, {**few, "large": 0.3}, progress=0.6) == "small"
    assert collapsed(signs, {**few, "small": 0.3, "large": 0.3}, progress=0.6) is None


def test_samples_that_have_varied_may_not_become_alike_however_early() -> None:
    signs = Signs()
    assert collapsed(signs, {"": 0.51}, progress=0.01) is None
    assert [collapsed(signs, {"": 0.1}, progress=0.02) for _ in range(2)] == [None, ""]


def test_only_worse_is_for_long_and_often() -> None:
    """0.25 is the limit: twice the best and the noise."""
    many = WORSE_EXAMINATIONS + 1

    def told(distance: float, begin: float, end: float, times: int) -> list[bool]:
        signs = Signs(best=0.1, distance=distance)
        return [only_worse(signs, begin + (end - begin) * k / (times - 1)) for k in range(times)]

    assert told(0.26, 0.3, 0.51, many) == [False] * (many - 1) + [True]
    assert not any(told(0.24, 0.3, 0.9, many)), "no worse"
    assert not any(told(0.26, 0.3, 0.9, many - 1)), "a short training goes on"
    assert not any(told(0.26, 0.3, 0.49, 3 * many)), "not for long"
    signs = Signs(best=0.1, distance=0.5)
    assert not only_worse(signs, 0.3)
    signs.distance = 0.1
    assert not only_worse(signs, 0.4)
    signs.distance = 0.5
    assert not any(only_worse(signs, 0.5 + 0.01 * k) for k in range(many)), "it begins anew"


def test_a_discriminator_is_too_strong_where_all_is_found_out_and_nothing_comes_closer() -> None:
    signs = Signs(certainty=0.99, distance=2.0)
    expected = [False] * (STRONG_EXAMINATIONS - 1) + [True]
    assert [too_strong(signs, 0.5) for _ in expected] == expected
    assert not any(too_strong(signs, 0.05) for _ in range(9)), "at first it may be"
    for change in ({"certainty": 0.9}, {"distance": 0.4}):
        other = replace(signs, strong=0, **change)  # type: ignore[arg-type]  # numbers
        assert not any(too_strong(other, 0.5) for _ in range(9)), change
    nearing, said = Signs(certainty=0.99, distance=3.0), []
    for _ in range(9):
        said.append(too_strong(nearing, 0.5))
        nearing.distance *= 0.85
    assert not any(said), "it comes closer"

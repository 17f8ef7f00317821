"""Limits that usual images of further patients pass as seldom as is said, however alike the images of one are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from radsynth.verbs._applying.limits import false_alarms, flags, limit, limits, limits_from, read_limits

Numbers = NDArray[np.float64]


def slices_of(rng: np.random.Generator, patients: int, alike: float) -> tuple[Numbers, NDArray[np.int64]]:
    """Numbers of 5 to 40 slices of each patient, and whose they are.

    alike: the share of the variance between patients, whose means have a long tail: a few are unlike the others
    """
    whose = np.repeat(np.arange(patients), rng.integers(5, 41, patients))
    means, own = np.expm1(rng.standard_normal(patients)), rng.standard_normal(len(whose))
    return np.sqrt(alike) * means[whose] + np.sqrt(1 - alike) * own, whose


def by_images(values: Numbers) -> float:
    """The limit of older versions, which took each image for one of a patient of its own."""
    return limit(values, np.arange(len(values)))


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("patients", [10, 20, 99, 300])
def test_usual_slices_of_further_patients_are_flagged_as_seldom_as_is_said(patients: int, alike: float) -> None:
    rng = np.random.default_rng(patients)
    flagged, touched, of_older = [], [], []
    for _ in range(100):
        values, whose = slices_of(rng, patients, alike)
        further, owner = slices_of(rng, 200, alike)
        highest, older = limit(values, whose), by_images(values)
        above = np.bincount(owner, further > highest) / np.bincount(owner)
        flagged.append(above.mean())
        touched.append((above > 0).mean())
        of_older.append((further > older).mean())
    promised = 0.01 if patients >= 99 else 1 / (patients + 1)
    assert np.mean(flagged) <= 1.15 * promised
    if patients <= 99:  # the largest number: a patient has images above it as often as `false_alarms` says
        assert np.mean(touched) == pytest.approx(1 / (patients + 1), rel=0.35)
    if patients == 20 and alike:
        assert np.mean(of_older) > 0.02, "more than 300 slices, and not the one in a hundred that was said"


def test_a_patient_of_many_slices_weighs_as_much_as_one_of_few() -> None:
    """Of 299 patients two may be above: the hundred slices of one weigh as much as two of another."""
    values = np.concatenate([np.arange(296.0), np.linspace(1000, 1100, 100), [2000, 2001], [500]])
    whose = np.concatenate([np.arange(296), np.full(100, 296), np.full(2, 297), [298]])
    assert limit(values, whose) == 500, "two patients wholly above, one at the limit"
    assert by_images(values) == np.sort(values)[-4] and (values > 500).sum() == 102
    assert limit(values, whose, 2.5 / 300) == pytest.approx(1000 + 50, abs=1.5), "one and a half"


@pytest.mark.parametrize("images", [1, 10, 60, 98, 99, 250, 1000])
def test_with_one_image_a_patient_images_are_counted(images: int) -> None:
    """Numbers from 0 to 1, all alike likely: a limit is passed by chance by 1 - limit of all further images."""
    generator = np.random.default_rng(images)
    held_out = generator.random((4000, images))
    found = np.array([by_images(values) for values in held_out])
    promised = 0.01 if images >= 99 else 1 / (images + 1)
    assert (1 - found).mean() <= 1.1 * promised and (1 - found).mean() > 0.7 * promised
    above = (held_out > found[:, None]).sum(axis=1)
    assert (above == above[0]).all() and above[0] <= 0.01 * images
    assert images >= 99 or above[0] == 0, "the largest of few is no reason to doubt it"


def test_too_few_patients_for_what_is_promised_are_told() -> None:
    assert false_alarms(99) == false_alarms(400) == "at most one usual image in a hundred"
    assert "images of one usual patient in 20," in false_alarms(19) and "it takes 99 patients" in false_alarms(19)
    assert "one usual patient in 2," in false_alarms(1) and "of 1 held-out patient;" in false_alarms(1)
    assert "unknown share" in false_alarms(0), "an older version counted images"


def test_a_limit_rests_on_the_patients_that_have_the_number() -> None:
    found = {"edges": np.arange(30.0), "anatomy": np.array([1.0, np.nan] * 15), "inconsistency": np.full(30, np.nan)}
    whose = np.arange(30)
    assert limits(found, whose) == {"edges": 29, "anatomy": 1} and limits_from(found, whose) == 15
    assert limits_from(found, whose // 5) == 6, "six patients have five images each"
    assert limits_from({"edges": np.full(3, np.nan)}, np.arange(3)) == 0


def test_limits_are_read_from_the_run_and_unknown_without(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == ({}, 0) and flags({"edges": 1.0}, {}) == "unknown"
    own = {"limits": {"edges": 2.0, "other": 1}, "limits_from_patients": 40}
    (tmp_path / "results.json").write_text(json.dumps(own))
    assert read_limits(tmp_path) == ({"edges": 2.0}, 40)
    document = {"limits": {"edges": 2.0}, "limits_from": 380, "direction": ["t1", "t2"]}
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert read_limits(tmp_path, target="t2") == ({"edges": 2.0}, 0), "an older version counted images"
    assert read_limits(tmp_path, target="t1")[0] == {}, "the way back is another network, which was not measured"
    assert read_limits(tmp_path, ("mismatch",))[0] == {}, "what an older version measured of label maps is another"
    (tmp_path / "results.json").write_text("[]")
    assert read_limits(tmp_path) == ({}, 0), "damaged"
    assert flags({"edges": 1.0}, {"edges": 2.0}) == "" and flags({"edges": 3.0}, {"edges": 2.0}) == "edges"

"""Verdicts on results from image to image, and what the checks of single images are worth, by cases made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.image import ImageSpec
from radsynth.metrics._paired import NUMBERS, over_patients
from radsynth.verbs._pairs.checked import checked, lost_or_made_up
from radsynth.verbs._pairs.found import GIVEN, OF_IMAGES, OWN, TRUE, Found, number_of, numbers_of
from radsynth.verbs._pairs.label_numbers import label_numbers
from radsynth.verbs._pairs.paired import _found
from radsynth.verbs._pairs.registration import _seconds
from radsynth.verbs._report.images import _rows
from radsynth.verbs._report.pair_verdicts import pair_verdicts, turned


def line(method: str, value: float, width: float = 0.01) -> dict[str, Any]:
    return {"method": method, "value": value, "low": value - width, "high": value + width}


def number(name: str, own: float, true: float, width: float = 0.01) -> dict[str, Any]:
    return {"name": f"segmented_{name}", "title": name, "methods": [line(OWN, own, width), line(TRUE, true, width)]}


def psnr(gain: float) -> dict[str, Any]:
    other = {**line("Lanczos", 20.0), "gain": {"value": gain, "low": gain - 0.1, "high": gain + 0.1}}
    return {"name": "psnr", "title": "PSNR", "methods": [line(OWN, 20 + gain), other]}


@pytest.mark.parametrize(("numbers", "sign", "words"), [
    ([number("dice_4", 0.02, 0.79)], "warning", "Label 4 is lost: a segmenter covers it with an overlap of 0.790"),
    ([number("dice_4", 0.7, 0.79)], "note", "Label 4 is found less well"),
    ([number("dice_4", 0.7, 0.79) | {"label": "lesion"}], "note", "Lesion is found less well"),
    ([number("dice_4", 0.7, 0.79, 0.1)], "good", "as well as in the true images"),
    ([number("dice_4", 0.7899, 0.7901, 0.00005)], "good", "as well as in the true images"),  # both are told as 0.790
    ([number("dice_4", 0.8, 0.79), number("invented_4", 12, 1)], "warning", "made up: it is found in 12.0 %"),
    ([number("dice_4", 0.0, 0.1)], "open", "Nothing can be said of label 4"),
    ([], "open", "It takes masks"),
])
def test_findings_that_are_lost_or_made_up_have_a_verdict_of_their_own(
    numbers: list[dict[str, Any]], sign: str, words: str
) -> None:
    quality, findings = pair_verdicts({"task": "translate", "numbers": [psnr(2), *numbers]})
    assert (quality.sign, findings.sign) == ("good", sign)
    assert ("as well as" in findings.text) == (sign == "good")
    assert words in findings.text.replace("\u00a0", " ")


def test_labels_that_the_segmenter_is_no_judge_of_are_no_tick() -> None:
    """A lesion that it never finds is the very thing that may be gone."""
    numbers = [number("dice_1", 0.8, 0.79), number("dice_4", 0.0, 0.1)]
    findings = pair_verdicts({"task": "translate", "numbers": [psnr(2), *numbers]})[1]
    assert (findings.sign, findings.answer) == ("note", "As far as can be told")
    assert ("finds label 1 in the results as well as in the true images. Nothing can be said of label 4"
            in findings.text), "not 'the labels'"


@pytest.mark.parametrize(("given", "guessed"), [(0.3, True), (0.785, False)])
def test_what_the_given_images_show_stands_beside_what_is_lost(given: float, guessed: bool) -> None:
    one = number("dice_4", 0.2, 0.79)
    one["methods"].append(line(GIVEN, given))
    findings = pair_verdicts({"task": "translate", "numbers": [psnr(2), one]})[1]
    assert findings.sign == "warning", "lost is lost"
    assert f"A segmenter of the given images finds it there with {given:.3f}." in findings.text
    assert ("can only be guessed" in findings.text) == guessed


@pytest.mark.parametrize(("own", "before", "sign", "answer"), [
    (100, 300, "good", "Yes"), (300, 305, "note", "Not shown"), (400, 300, "warning", "No")])
def test_results_without_pairs_are_held_against_what_was_given(own: float, before: float, sign: str, answer: str,
                                                               ) -> None:
    def distance(value: float) -> dict[str, Any]:
        return {"name": "frechet_distance", "value": value, "low": value - 10, "high": value + 10, "floor": 20.0}

    results = {"before": [distance(before)], "direction": ["t1", "flair"]}
    found, = turned({"frechet_distance": distance(own)}, results)
    assert (found.sign, found.answer) == (sign, answer)
    assert f"of t1, unchanged, {before:.0f}" in found.text.replace("\u00a0", " ")
    assert not turned({}, results) and not turned({"frechet_distance": distance(own)}, {}), "nothing was measured"


def test_label_maps_and_warps_have_a_verdict_on_quality_alone() -> None:
    found, = pair_verdicts({"task": "segment", "numbers": [psnr(0)]})
    assert (found.sign, found.answer) == ("warning", "Not shown")
    assert "In 0 of 1 number " in found.text and "PSNR against Lanczos." in found.text
    found, = pair_verdicts({"task": "segment", "numbers": [psnr(2), {**psnr(0.05), "title": "SSIM"}]})
    assert found.sign == "note" and "In 1 of 2 numbers" in found.text and "Not in: SSIM against Lanczos." in found.text
    found, = pair_verdicts({"task": "segment", "numbers": [psnr(2), {**psnr(-2), "title": "SSIM"}]})
    assert (found.sign, found.answer) == ("warning", "Not in everything"), "somewhere it is worse"
    found, = pair_verdicts({"task": "segment", "numbers": [psnr(-1), {**psnr(-2), "title": "SSIM"}]})
    assert (found.sign, found.answer) == ("warning", "No") and "PSNR by Lanczos; SSIM by Lanczos" in found.text
    number = psnr(-2)
    number["methods"].append({**line("nothing", 20), "gain": {"value": 0, "low": -3, "high": 2}})
    found, = pair_verdicts({"task": "segment", "numbers": [number]})
    assert found.text.endswith("is nearer to the truth: PSNR by Lanczos."), "what is not decided is not nearer"


def test_nothing_that_was_compared_is_no_success() -> None:
    """Of test masks without a label there is no number, and none was worse."""
    for numbers in ([], [{**psnr(2), "name": "time"}], [{**psnr(2), "methods": [line(OWN, 22.0)]}]):
        found, = pair_verdicts({"task": "segment", "numbers": numbers})
        assert (found.sign, found.answer) == ("open", "Not measured")


def test_neither_speed_nor_likeness_is_nearness_to_the_truth() -> None:
    """Of a registration: a faster one that makes images more alike may be farther from the true warp."""
    others = [{**psnr(2), "name": name, "title": name} for name in ("similarity", "time")]
    found, = pair_verdicts({"task": "register", "numbers": [psnr(-2), *others]})
    assert (found.sign, found.answer) == ("warning", "No") and "time" not in found.text


def test_a_label_of_one_test_patient_alone_shows_nothing_good_of_patients() -> None:
    """Its interval is over that patient's images, though others were tested: the page said "over patients"."""
    truths = np.zeros((12, 8, 8), np.uint8)
    truths[:6, 2:5, 2:5], truths[:, 6:, 6:] = 1, 2
    spec = ImageSpec(channels=("grey",), size=(8, 8), mask_classes=3)
    found = label_numbers({OWN: truths, "rival": np.roll(truths, 1, 1)}, truths, spec, None)
    numbers = numbers_of(found, np.repeat([3, 7], 6), 30, 0)
    alone = {number["name"] for number in numbers if number.get("of_one_patient")}
    assert {"dice_1", "hausdorff_95_1"} <= alone and not {"dice_2", "hausdorff_95_2"} & alone
    assert all("does not tell how patients differ" in row["meaning"] for row in _rows(numbers) if "1" in row["title"])
    verdict, = pair_verdicts({"task": "segment", "patients": 2, "numbers": numbers})
    assert verdict.sign == "note" and "What is measured of label 1 is of one patient: of others" in verdict.limit
    verdict, = pair_verdicts({"task": "segment", "patients": 2, "numbers": [n for n in numbers if "2" in n["name"]]})
    assert verdict.sign == "good" and not verdict.limit
    seen = number("dice_4", 0.8, 0.79) | {"label": "label 4", "of_one_patient": True}
    quality, findings = pair_verdicts({"task": "translate", "patients": 9, "numbers": [psnr(2), seen]})
    assert (quality.sign, findings.sign) == ("good", "note") and "of label 4 is of one patient" in findings.limit


def test_a_label_that_no_test_image_has_is_not_passed_over() -> None:
    """In every number the results were nearer to the truth, and not a word on the lesion that nobody had."""
    found, = pair_verdicts({"task": "segment", "untested": ["lesion"], "numbers": [psnr(2)]})
    assert (found.sign, found.limit) == ("note", "Nothing is known of lesion: fewer than two test images have it.")
    quality, findings = pair_verdicts({"task": "translate", "untested": ["lesion"],
                                       "numbers": [psnr(2), number("dice_4", 0.8, 0.79)]})
    assert (quality.sign, findings.sign) == ("good", "note") and "known of lesion" in findings.limit


def test_one_test_patient_shows_nothing_good_of_patients() -> None:
    found, = pair_verdicts({"task": "segment", "patients": 1, "numbers": [psnr(2)]})
    assert (found.sign, found.answer) == ("note", "Yes") and "of one patient: of others" in found.limit
    found, = pair_verdicts({"task": "segment", "patients": 1, "numbers": [psnr(-2)]})
    assert found.sign == "warning"
    assert not pair_verdicts({"task": "translate", "patients": 1, "numbers": [psnr(2)]})[1].limit, "unmeasured"
    same = "All pairs are of the same two patients: of others this says nothing."
    for task, patients, limit in (("register", 2, same), ("register", 3, ""), ("segment", 2, "")):
        found, = pair_verdicts({"task": task, "patients": patients, "numbers": [psnr(2)]})
        assert (found.sign, found.limit) == ("note" if limit else "good", limit)
    found, = pair_verdicts({"task": "segment", "patients": 2, "numbers": [psnr(2)]})
    assert found.sign == "good" and not found.limit


def test_flagged_images_stand_beside_the_others() -> None:
    truth = np.zeros((4, 8, 8), np.uint8)
    truth[:2, :4, :4] = 1
    found = truth.copy()
    found[0] = 0  # lost
    found[1, 0, 0] = 0  # a pixel is nothing
    found[2, :4, :4] = 2  # made up
    found[3, 0, 0] = 2
    assert lost_or_made_up(found, truth).tolist() == [True, False, True, False]
    error = Found(name="absolute_error", title="Error", unit="HU", better="lower", meaning="",
                  values={OWN: np.array([8.0, 2.0, 3.0, 4.0])})
    doubts = {"edges": np.array([9.0, 1, 1, 1]), "anatomy": np.array([0.0, 0, 0, 5])}
    assert checked(doubts, {"edges": 2.0, "anatomy": 4.0}, error, {OWN: found, TRUE: truth}) == {
        "images": 4, "flagged": 2, "error": "Error", "unit": "HU", "of_flagged": 6.0, "of_others": 2.5,
        "order": {"edges": pytest.approx(3 / 15**0.5), "anatomy": pytest.approx(1 / 15**0.5)},
        "wrong": 2, "wrong_flagged": 1}
    same = checked({"edges": np.ones(4)}, {"edges": 2.0}, error, {})
    assert same["order"] == {"edges": 0.0} and same["of_flagged"] is None


def test_few_patients_have_wide_intervals_and_one_image_has_none() -> None:
    """The mean of three patients holds the truth in 95 of 100 studies, not in 85."""
    rng, held, patients = np.random.default_rng(0), 0, np.repeat(np.arange(3), 4)
    for seed in range(200):
        found = over_patients((rng.normal(size=(3, 1)) + 0.3 * rng.normal(size=(3, 4))).ravel(), patients, 30, seed)
        held += found.low <= 0 <= found.high
    assert held >= 184
    alone = Found(name="psnr", title="", unit="", better="higher", meaning="", values={OWN: np.array([3.0, np.nan])})
    assert numbers_of([alone], np.arange(2), 30, 0) == []


def test_what_is_lost_is_seen_pair_by_pair() -> None:
    """Patients differ more than results from the truth: the intervals of both overlap, but all pairs differ."""
    true = np.linspace(0.4, 0.9, 12)
    values = {OWN: true - 0.1 + 0.01 * np.sin(np.arange(12)), TRUE: true}
    found = Found(name="segmented_dice_1", title="", unit="", better="higher", meaning="", values=values)
    one = number_of(found, np.arange(12), 30, 0)
    own, best = one["methods"]
    assert own["high"] > best["low"] and best["behind"]["low"] > 0.08
    assert pair_verdicts({"task": "translate", "numbers": [psnr(2), one]})[1].answer == "Partly"


def test_intervals_end_where_the_number_does() -> None:
    values = np.array([0.0, 1.0, 1.0, 1.0])
    found = Found(name="dice", title="", unit="", better="higher", meaning="", values={OWN: values}, bounds=(0, 1))
    own, = number_of(found, np.arange(4), 30, 0)["methods"]
    assert own["value"] == 0.75 and own["high"] == 1 and 0 <= own["low"] < 0.75


def test_errors_similarities_and_times_of_few_patients_have_no_impossible_ends(
        make_prepared: Callable[..., Path]) -> None:
    prepared = Prepared(make_prepared())
    near, far = {"absolute_error": 0.0, "psnr": 40.0, "ssim": 1.0, "ms_ssim": 1.0}, 0.5
    table = {OWN: np.array([[near[number.name], near[number.name], far] for number in NUMBERS])}
    found = [*_found(table, prepared), _seconds({OWN: np.array([0.001, 0.001, 0.5])})]
    ends = {one.name: number_of(one, np.arange(3), 30, 0)["methods"][0] for one in found}
    assert ends["absolute_error"]["low"] == ends["time"]["low"] == 0
    assert ends["ssim"]["high"] == ends["ms_ssim"]["high"] == 1


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, 0.0, 41.0), (100.0, 59.0, 100.0)])
def test_none_of_seven_patients_is_not_none_of_all(value: float, low: float, high: float) -> None:
    """1 - 0.025^(1/7) = 0.41 of patients may have what none of seven has."""
    found = Found(name="invented_1", title="", unit=OF_IMAGES, better="lower", meaning="", bounds=(0, 100), label="x",
                  values={OWN: np.full(21, value)})
    own, = number_of(found, np.repeat(np.arange(7), 3), 30, 0)["methods"]
    assert (own["low"], own["high"]) == (pytest.approx(low, abs=0.1), pytest.approx(high, abs=0.1))


def test_a_label_found_nowhere_or_exactly_in_all_of_seven_is_not_so_in_all() -> None:
    truths = np.zeros((7, 8, 8), np.uint8)
    truths[:, 2:6, 2:6] = 1
    spec, diagonal = ImageSpec(size=(8, 8), mask_classes=2), 2 * 7 * 2**0.5  # pixels of 2 mm
    for made, overlap, far in ((0 * truths, (0.0, 0.41), (0.59 * diagonal, diagonal)),
                               (truths, (0.59, 1.0), (0.0, 0.41 * diagonal))):
        found = numbers_of(label_numbers({OWN: made}, truths, spec, np.full((7, 2), 2.0)), np.arange(7), 30, 0)
        ends = {one["name"]: (one["methods"][0]["low"], one["methods"][0]["high"]) for one in found}
        assert ends["dice_1"] == pytest.approx(overlap, abs=0.005)
        assert ends["hausdorff_95_1"] == pytest.approx(far, abs=0.1)


def test_finding_nothing_is_no_gain_where_there_is_nothing() -> None:
    """A segmenter that finds nothing makes nothing up; one that tells images with the label from those without does."""
    truths = np.zeros((20, 8, 8), np.uint8)
    truths[::2, 2:6, 2:6] = 1
    everywhere, half = np.ones_like(truths), truths.copy()
    half[:8] = 0  # missed in four of ten, and made up in one of ten
    half[1, :2, :2] = 1
    spec, patients = ImageSpec(size=(8, 8), mask_classes=2), np.arange(20)

    def gains(own: Any) -> dict[str, dict[str, Any]]:
        found = numbers_of(label_numbers({OWN: own, "k-means": everywhere}, truths, spec, None), patients, 30, 0)
        return {one["name"]: one["methods"][1].get("gain") for one in found}

    assert gains(np.zeros_like(truths))["invented_1"] is None and gains(half)["invented_1"]["low"] > 0
    assert gains(everywhere)["invented_1"] is not None, "more of it is no gain, and is compared"
    assert gains(half)["missed_1"] is None and "missed_1" not in gains(everywhere), "shown, where anybody misses any"
    empty, = numbers_of([one for one in label_numbers({OWN: 0 * truths, "k-means": everywhere}, truths, spec, None)
                         if one.name == "missed_1"], patients, 30, 0)
    assert empty["methods"][0]["value"] == 100


@pytest.mark.parametrize(("start", "words"), [
    ("missed", "nothing of it is found: liver in"), ("invented", "some of it is drawn: liver in")])
def test_labels_not_found_or_drawn_where_they_are_not_are_named_and_no_success(start: str, words: str) -> None:
    def mistaken(value: float) -> dict[str, Any]:
        return {"name": f"{start}_1", "title": "Liver", "label": "liver",
                "methods": [line(OWN, value), line("k-means", 0.0)]}

    for value, sign, answer, told in ((2.0, "good", "Yes", False), (20.0, "good", "Yes", True),
                                      (80.0, "note", "Partly", True)):
        found, = pair_verdicts({"task": "segment", "numbers": [psnr(2), mistaken(value)]})
        assert (found.sign, found.answer, f"{words} {value:.1f}" in found.text) == (sign, answer, told)

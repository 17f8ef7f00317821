"""Verdicts and the bottom line follow from the numbers and their intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from radsynth.verbs._report.evidence import usefulness
from radsynth.verbs._report.facts import facts, limits
from radsynth.verbs._report.verdicts import bottom_line, verdicts
from radsynth.verbs._report.words import verdict
from radsynth.verbs._run_files import Missing, RunFiles
from radsynth.verbs.report import report
from tests.report.examples import AUDIT, MEASURED, RESULTS, SHARE, SPEC, add, page, utility


@pytest.mark.parametrize(("value", "sign"), [(0.9, "good"), (0.78, "good"), (0.6, "note"), (0.3, "warning")])
def test_images_with_masks_have_a_verdict_on_these(run: Path, value: float, sign: str) -> None:
    one = {"name": "mask_agreement", "title": "Agreement", "better": "higher", "meaning": "", "n": 60, "value": value,
           "low": value - 0.03, "high": value + 0.03, "floor": 0.8, "floor_low": 0.78, "floor_high": 0.82}
    (run / "results.json").write_text(json.dumps(RESULTS | {"measurements": [*RESULTS["measurements"], one]}))
    found, = (one for one in verdicts(RunFiles(run)) if one.heading == "Masks")
    assert found.sign == sign and "0.800" in found.text
    assert "Masks" not in [one.heading for one in verdicts(RunFiles(run, without=("results.json",)))]


def test_masks_that_images_may_not_show_get_no_tick(run: Path) -> None:
    """Intervals of eight images of four patients reach from 0 to 1, and hold every floor."""
    one = {"name": "mask_agreement", "title": "Agreement", "better": "higher", "meaning": "", "n": 8, "value": 0.175,
           "low": 0.0, "high": 0.42, "floor": 0.63, "floor_low": 0.0, "floor_high": 1.0, "excess_low": -1.0,
           "excess_high": 0.5}
    (run / "results.json").write_text(json.dumps(RESULTS | {"measurements": [*RESULTS["measurements"], one]}))
    found, = (one for one in verdicts(RunFiles(run)) if one.heading == "Masks")
    assert (found.sign, found.answer) == ("note", "Not shown") and "may differ as much by chance" in found.limit
    assert verdict(one) == ("note", "not decided")
    assert verdict(one | {"value": 0.6, "excess_high": 0.9})[0] == "good"


@pytest.mark.parametrize("value", [0.0, 0.15, 0.5])
def test_a_segmenter_that_finds_nothing_in_real_images_is_no_judge_of_masks(run: Path, value: float) -> None:
    one = {"name": "mask_agreement", "title": "Agreement", "better": "higher", "meaning": "", "n": 39, "value": value,
           "low": value, "high": value, "floor": 0.1, "floor_low": 0.1, "floor_high": 0.1}
    (run / "results.json").write_text(json.dumps(RESULTS | {"measurements": [*RESULTS["measurements"], one]}))
    found, = (one for one in verdicts(RunFiles(run)) if one.heading == "Masks")
    assert (found.sign, found.answer) == ("open", "Not measured") and "no judge of synthetic ones" in found.text
    assert verdict(one)[0] == "note"


def test_pairs_that_are_no_copies_are_not_called_so(run: Path) -> None:
    assert "Copy." not in page(run).text


def answers(run: Path) -> dict[str, tuple[str, str]]:
    return {one.heading: (one.sign, one.answer) for one in verdicts(RunFiles(run))}


def test_verdicts_follow_from_what_was_found(run: Path) -> None:
    assert answers(run) == {"Realism": ("warning", "No"), "Variety": ("note", "Partly"),
                            "Usefulness": ("open", "Not tested"), "Privacy": ("open", "Not audited")}
    for study, expected in ((utility(0.01, 0.05), ("good", "Yes")), (utility(-0.05, 0.05), ("note", "Not shown")),
                            (utility(-0.05, -0.01), ("warning", "No, they harm")),
                            (utility(-0.01, 0.01, 0.99), ("note", "Nothing to gain")),
                            (utility(0.01, 0.05, 0.55), ("open", "No verdict"))):
        add(run, utility=study)
        assert answers(run)["Usefulness"] == expected
    for passed, sign in ((True, "good"), (False, "warning"), (None, "open")):
        add(run, audit=AUDIT | {"passed": passed})
        assert answers(run)["Privacy"][0] == sign
    for count, answer in ((0, "Nothing found in the images"), (2, "Nothing beyond chance")):
        add(run, audit=AUDIT | {"copies": AUDIT["copies"] | {"count": count}})
        assert answers(run)["Privacy"] == ("good", answer)
    add(run, utility=utility(0.01, 0.05) | {"generator_saw": "unknown"}, audit=AUDIT | {"context": {"of_run": False}})
    assert answers(run)["Usefulness"] == answers(run)["Privacy"] == ("open", "Other images")
    assert "Do not give these images away before" in bottom_line(verdicts(RunFiles(run)))


def test_what_was_added_to_training_is_not_called_images_of_patients(run: Path) -> None:
    spec = SPEC | {"counts": {"train": 900}, "patients": {"train": 720}, "added": {"images": 700, "patients": 700}}
    (run / "spec.json").write_text(json.dumps(spec))
    told = dict(facts(RunFiles(run)))["Learned from"]
    assert told.startswith("200 ") and "images of 20 patients" in told
    assert told.endswith(", and 700 images that prepare.extra added.")


def test_few_volumes_are_judged_by_their_slices(run: Path) -> None:
    distance = next(one for one in RESULTS["measurements"] if one["name"] == "frechet_distance")
    reason = "At least 50 held-out real and 50 synthetic images are needed, there are 24 of each."
    slices = [distance | {"name": f"frechet_distance_{axis}_axis"} for axis in ("first", "second", "third")]
    add(run, results=RESULTS | {"measurements": slices, "refused": [
        {"name": "frechet_distance", "title": "Fr\u00e9chet distance", "reason": reason}]})
    found = verdicts(RunFiles(run))
    assert answers(run)["Realism"] == ("warning", "No") and "their slices were" in found[0].text
    assert answers(run)["Variety"] == ("open", "Not measured") and found[1].text == reason
    assert bottom_line(found).startswith("The images are far from real ones")
    at_floor = [one | {"value": one["floor"], "low": one["floor_low"], "high": one["floor_high"]} for one in slices]
    add(run, results=RESULTS | {"measurements": at_floor, "refused": []})
    assert answers(run)["Realism"] == ("good", "Yes")
    assert bottom_line(verdicts(RunFiles(run))).startswith("Whether all kinds of images are there")


def test_the_class_that_is_covered_least_is_that_of_the_scorecard(run: Path) -> None:
    """A class of which nothing was covered (real 85 %) passed for better than one of 1.5 % (real 97 %)."""
    coverage = {name: SHARE | {"name": "coverage", "value": value, "floor": floor}
                for name, value, floor in (("hand", 0.0, 0.85), ("head", 0.015, 0.97))}
    add(run, results=RESULTS | {"classes": {
        name: {"images": 30, "measurements": [one], "refused": []} for name, one in coverage.items()}})
    text = page(run).text
    assert "Least covered: class hand, 0 % (real against real 85 %)" in text
    assert "0 (class hand) to 0.015 (class head)" in text


def test_what_was_not_measured_stands_beside_its_reason(run: Path) -> None:
    """Nineteen names and then three reasons in a row: nobody could tell which belonged to which."""
    why = [f"At least {number} images are needed." for number in (20, 50)]
    refused = [{"name": title, "title": title, "reason": reason}
               for title, reason in zip(("Area", "Precision", "Recall", "Area"), (*why, why[1], why[0]), strict=True)]
    add(run, results=RESULTS | {"refused": refused})
    told = [text for name, text in facts(RunFiles(run)) if name == "Not measured"]
    assert told == [f"Area: {why[0]}", f"Precision; Recall: {why[1]}"]


def test_what_nobody_can_use_is_said_at_the_top(run: Path) -> None:
    text = "Samples of class x are all alike."
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"event": "not usable", "images": 9, "text": text}) + "\n")
    assert ("Mind", text) in facts(RunFiles(run))


def test_a_class_that_nothing_was_learned_of_is_said_at_the_top(run: Path) -> None:
    spec = json.loads((run / "spec.json").read_text())
    (run / "spec.json").write_text(json.dumps({**spec, "labels": {"common": 9, "rare": 0}}))
    (text,) = [text for name, text in facts(RunFiles(run)) if name == "Mind" and "rare" in text]
    assert text.startswith("No training image is of the class rare: it is not learned and cannot be generated.")


def test_the_bottom_line_knows_a_test_that_showed_nothing_and_readers(run: Path) -> None:
    near = [one | {"value": one["floor"], "low": one["floor_low"], "high": one["floor_high"]}
            for one in RESULTS["measurements"]]
    add(run, results=RESULTS | {"measurements": near}, utility=utility(-0.05, 0.05))
    found = verdicts(RunFiles(run))
    assert bottom_line(found).startswith("A test on real patients did not show that these images help")
    assert "Synthetic images in place of all real ones: +0.0 points (\u22125.0 to +5.0)." in found[2].text
    add(run, utility=utility(0.01, 0.05))
    assert answers(run)["Usefulness"] == ("good", "Yes")
    few = utility(0.01, 0.05)
    for study in (utility(-0.01, 0.03), utility(-0.03, -0.01)):
        for part in ("arms", "differences"):
            study[part] += [one | {"share": 0.1} for one in few[part]]
        add(run, utility=study | {"shares": [0.1, 1.0]})
        assert answers(run)["Usefulness"] == ("note", "With few patients")
    assert "help in training where few real ones are at hand" in bottom_line(verdicts(RunFiles(run)))
    add(run, utility=utility(0.01, 0.05) | {"version": 1})
    assert answers(run)["Usefulness"] == ("open", "Not tested"), "it asked another question"
    with pytest.raises(Missing, match=r"earlier version.*repeat 'radsynth utility'"):
        usefulness(RunFiles(run))
    assert limits(RunFiles(run))[0] == "No doctor has judged the images."
    (run / "study").mkdir()
    (run / "study" / "results.json").write_text(json.dumps({"readers": [{}, {}]}))
    assert limits(RunFiles(run))[0] == "2 readers judged a sample of the images, blinded: see Readers."


def test_copies_are_a_warning_not_a_tick(run: Path) -> None:
    copied = [one | {"value": 0.05} if one["name"] == "copies" else one for one in RESULTS["measurements"]]
    add(run, results=RESULTS | {"measurements": copied})
    privacy = next(one for one in verdicts(RunFiles(run)) if one.heading == "Privacy")
    assert privacy.sign == "warning" and privacy.text.startswith("3 synthetic images of 60 look copied")
    assert privacy.answer == "Outright copies", "the audit's are others"
    assert "Do not give these images away as they are" in bottom_line(verdicts(RunFiles(run)))


@pytest.mark.parametrize("of_run", [True, False])
def test_an_audit_that_looked_for_no_copies_does_not_hide_those_that_were_found(run: Path, of_run: bool) -> None:
    """With few held-out images the evaluation finds copies, and the audit cannot look for them, or looked elsewhere."""
    copied = [one | {"value": 0.05} if one["name"] == "copies" else one for one in RESULTS["measurements"]]
    audit = AUDIT | {"verdict": "No verdict: too few.", "passed": None, "context": {"of_run": of_run}}
    add(run, results=RESULTS | {"measurements": copied}, audit=audit | ({"copies": None} if of_run else {}))
    privacy = next(one for one in verdicts(RunFiles(run)) if one.heading == "Privacy")
    assert (privacy.sign, privacy.answer) == ("warning", "Outright copies")
    assert privacy.text.startswith("3 synthetic images of 60 look copied") and "No verdict: too few." in privacy.text
    assert "Do not give these images away as they are" in bottom_line(verdicts(RunFiles(run)))


def test_after_an_audit_without_a_verdict_it_is_not_asked_for_again(run: Path) -> None:
    add(run, audit=AUDIT | {"passed": None, "copies": None})
    told = bottom_line(verdicts(RunFiles(run)))
    assert "radsynth audit" not in told and "the audit came to no verdict" in told


def test_near_copies_are_told_by_the_number_that_is_beyond_chance(run: Path) -> None:
    """By pixels there are more, as chance gives: the source has duplicates."""
    apart = {"near_copies_features": {"value": 0.03, "low": 0.022, "floor": 0.01},
             "near_copies_pixels": {"value": 0.04, "low": 0.03, "high": 0.05, "floor": 0.04, "floor_high": 0.05}}
    add(run, results=RESULTS | {"measurements": [one | apart.get(one["name"], {}) for one in RESULTS["measurements"]]})
    privacy = next(one for one in verdicts(RunFiles(run)) if one.heading == "Privacy")
    assert privacy.sign == "warning" and privacy.answer == "Near copies"
    assert "(3.0 % at most, chance gives about 1.0 %)" in privacy.text.replace("\u00a0", " ")


def test_differential_privacy_says_whom_it_protects_and_how_well(run: Path) -> None:
    def told(epsilon: float, patients: int) -> Any:
        (run / "generator.json").write_text(json.dumps({"privacy": {"epsilon": epsilon, "delta": 1e-5}}))
        (run / "spec.json").write_text(json.dumps(SPEC | {"patients": {"train": patients}}))
        return next(one for one in verdicts(RunFiles(run)) if one.heading == "Privacy")

    several, alone = told(9.99, 50), told(1.0, 100)
    assert "epsilon 9.99 at delta 1e-05: but for that chance, whether one patient was" in several.text
    assert several.text.endswith("by a factor of at most 22,000.") and "counted as a patient" not in several.limit
    assert "whether one image was" in alone.text and alone.text.endswith("a factor of at most 2.8.")
    assert "Every image was counted as a patient of its own" in alone.limit
    assert any("not for checkpoints" in text for text in limits(RunFiles(run)))
    (run / "generator.json").write_text("{}")
    assert not any("not for checkpoints" in text for text in limits(RunFiles(run)))


def test_verdicts_follow_the_intervals() -> None:
    assert verdict(MEASURED | {"name": "frechet_distance"}) == ("warning", "far above real images")
    assert verdict(MEASURED | {"name": "frechet_distance", "low": 21.0, "value": 30.0}) == ("good", "as real images")
    touching = SHARE | {"name": "recall", "high": 0.9, "excess": -0.4, "excess_low": -0.5, "excess_high": -0.1}
    assert verdict(touching)[0] == "note"
    below = MEASURED | {"better": "down to floor", "value": 10.0, "low": 9.0, "high": 11.0, "name": "kernel_distance"}
    assert verdict(below) == ("good", "as real images")
    assert verdict(SHARE | {"name": "recall"}) == ("note", "below real images")


@pytest.mark.parametrize(("name", "value", "floor", "words"), [
    ("radiomics_distance", 4.0, 2.0, "far above"), ("radiomics_distance", 3.0, 2.0, "above"),  # e^2 = 7.4, e = 2.7
    ("radiomics_distance", 1.0, -1.0, "far above"), ("kernel_distance", 9.0, -0.1, "far above"),
    ("kernel_distance", 2.0, -0.1, "above"), ("kernel_distance", 2.0, 0.01, "above"),  # 200 times a floor of chance
    ("spectrum_distance", 9.0, 2.0, "far above"), ("spectrum_distance", 7.0, 2.0, "above")])
def test_far_is_four_times_the_floor_of_logarithms_and_of_numbers_whose_floor_is_0_too(
    name: str, value: float, floor: float, words: str
) -> None:
    one = MEASURED | {"name": name, "better": "down to floor", "value": value, "low": value - 0.5, "high": value + 0.5,
                      "floor": floor, "floor_low": floor - 0.9, "floor_high": floor + 0.9,
                      "excess_low": 0.1, "excess_high": 9.0}
    assert verdict(one) == ("warning" if "far" in words else "note", f"{words} real images")


@pytest.mark.parametrize(("change", "found"), [
    ({}, ("good", "as real images")),
    ({"floor": 1.05, "floor_low": 1.03, "floor_high": 1.07, "value": 1.04, "low": 1.0, "high": 1.08,
      "excess": -0.01, "excess_low": -0.05, "excess_high": 0.03}, ("note", "cannot tell: classes hardly found")),
    ({"features": "FID's Inception network, its 1008 classes"}, ("note", "not the classes of these images")),
    ({"value": 1.2, "low": 1.1, "high": 1.3, "excess": -0.6, "excess_low": -0.7, "excess_high": -0.5},
     ("note", "below real images")),
])
def test_a_likeness_in_the_inception_score_counts_where_classes_are_found(
    change: dict[str, Any], found: tuple[str, str],
) -> None:
    score = {**MEASURED, "name": "inception_score", "value": 1.78, "low": 1.7, "high": 1.86, "floor": 1.8,
             "floor_low": 1.72, "floor_high": 1.88, "excess": -0.02, "excess_low": -0.12, "excess_high": 0.08}
    assert verdict(score | change) == found


def test_a_translation_between_two_of_three_classes_has_not_learned_from_the_third(run: Path) -> None:
    add(run, generator={"task": "cut"}, spec={**SPEC, "labels": {"abdomen": 40, "chest": 1400, "hand": 30}})
    (run / "settings.yaml").write_text("task:\n  kind: cut\n  domains: [abdomen, chest]\n")
    told = "Only the 1,440 of the classes abdomen and chest were looked at."
    assert dict(facts(RunFiles(run)))["Learned from"].endswith(told)
    add(run, spec={**SPEC, "labels": {"abdomen": 40, "chest": 1400}})
    assert "looked at" not in dict(facts(RunFiles(run)))["Learned from"]
    (run / "settings.yaml").write_text("task:\n  kind: cut\n")  # the only two classes need not be named
    assert "looked at" not in dict(facts(RunFiles(run)))["Learned from"]


def test_without_held_out_images_nobody_is_sent_to_an_audit(run: Path) -> None:
    """It tries no attack then, and tells no copies."""
    add(run, results={key: RESULTS[key] for key in ("version", "context", "neighbours")} | {"measurements": []})
    for held_out, sent in ((1, True), (0, False)):
        add(run, spec=SPEC | {"counts": {"train": 100, "validation": 0, "test": held_out}})
        report(run)
        told = (run / "report.html").read_text() + (run / "report.json").read_text()
        assert ("radsynth audit" in told) == sent
        assert ("nobody can tell whether they are copies" in told) != sent

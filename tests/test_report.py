from __future__ import annotations

import inspect
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.arrays import IntensityMap
from radsynth.errors import FolderError
from radsynth.image import ImageSpec
from radsynth.metrics import modules
from radsynth.metrics._paired import NUMBERS as PAIR_NUMBERS
from radsynth.verbs._agreement import NUMBER as AGREEMENT
from radsynth.verbs._auditing import attacks as _audit_attacks
from radsynth.verbs._evaluating.pictures import write_unmeasured
from radsynth.verbs._grid import black_and_white, shades, shown_window
from radsynth.verbs._pairs import label_numbers, registration
from radsynth.verbs._report.run_files import RunFiles
from radsynth.verbs._report.scorecard import NUMBERS, QUESTIONS, scorecard
from radsynth.verbs._report.verdicts import bottom_line, facts, limits, verdicts
from radsynth.verbs._report.words import figure, interval, verdict
from radsynth.verbs.report import report

CHROMIUM = "/usr/bin/chromium"
SECTIONS = 11
"""Headings of the second level, without those of tasks from image to image and of control."""
MEASURED: dict[str, Any] = {
            "title": "Fréchet distance", "meaning": "A meaning.", "better": "closer to floor", "unit": "",
            "features": "net", "n": 60, "value": 120.0,
            "low": 110.0, "high": 130.0, "floor": 20.0, "floor_low": 18.0, "floor_high": 22.0}
SHARE: dict[str, Any] = MEASURED | {
                    "unit": "share", "value": 0.5, "low": 0.4, "high": 0.6, "floor": 0.9, "floor_low": 0.85,
                    "floor_high": 0.95}
ALIKE = SHARE | {"value": 0.01, "low": 0.0, "high": 0.03, "floor": 0.01, "floor_low": 0.0, "floor_high": 0.02,
                 "better": "lower"}
RESULTS: dict[str, Any] = {
    "version": 1, "refused": [],
    "measurements": [MEASURED | {"name": "frechet_distance"}, *(SHARE | {"name": name, "title": name}
                     for name in ("precision", "recall", "coverage")), ALIKE | {"name": "copies", "value": 0.0},
                     ALIKE | {"name": "near_copies_features"}, ALIKE | {"name": "near_copies_pixels"}],
    "context": {"images": 60, "held_out_images": 60, "held_out_patients": 30, "training_images": 100,
                "training_searched": 100, "synthetic_images": 80, "features": "net", "repetitions": 20,
                "interval": "95 %, half-samples of patients", "seed": 0,
                "real_pictures": True, "warnings": ["Only 3 held-out patients: mind."], "virtual": False,
                "data_hash": "d"},
    "histogram": {"low": 0, "high": 255, "units": "grey levels", "real": [0.5, 0.5], "synthetic": [0.4, 0.6]},
    "classes": {name: {"images": 30, "measurements": [MEASURED | {"name": "frechet_distance", "value": value}],
                       "refused": []} for name, value in (("left lung", 40.0), ("right lung", 80.0))},
    "neighbours": [{"synthetic": 4, "training": 7, "by": "pixels", "distance": 0.4, "rarity": 0.0, "copy": False}],
}
SPEC: dict[str, Any] = {"spec": {"size": [16, 16], "modality": "MR", "virtual": False, "units": "stored"},
        "intensity": {"low": 0, "high": 255}, "counts": {"train": 100},
        "patients": {"train": 50}, "data_hash": "abc123"}


class Page(HTMLParser):
    """What a reader or a screen reader gets: headings, texts, pictures without words, things from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.silent: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.text = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.S)).replace("\u00a0", " ")

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "img" and not given.get("alt"):
            self.silent.append(str(given))
        if tag in ("script", "link", "iframe"):
            self.outside.append(tag)
        self.outside += [v for k, v in attributes if k in ("src", "href") and v and not v.startswith(("data:", "#"))]
        if tag == "th" and "scope" not in given:
            self.silent.append("th without scope")
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with everything a report can show."""
    folder = tmp_path / "scans"
    (folder / "pictures").mkdir(parents=True)
    (folder / "previews").mkdir()
    generator = np.random.default_rng(0)
    for name, shape in (("real", (8, 1, 16, 16)), ("synthetic", (8, 1, 16, 16)), ("neighbours", (1, 2, 1, 16, 16))):
        np.save(folder / "pictures" / f"{name}.npy", generator.integers(0, 255, shape, dtype=np.uint8))
    (folder / "results.json").write_text(json.dumps(RESULTS))
    (folder / "spec.json").write_text(json.dumps(SPEC))
    (folder / "settings.yaml").write_text("train:\n  seconds: 300\n")
    (folder / "versions.json").write_text(json.dumps({"torch": "2.13.0"}))
    plan = [{"setting": "train.seconds", "value": 300, "reason": "The default."}]
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "inspection.json").write_text(json.dumps({"n_images": 150, "n_patients": 75, "modality": "MR",
                                                        "median_size": [16, 16], "labels": {}, "notes": {}}))
    (folder / "data").mkdir()
    (folder / "data" / "rejected.csv").write_text(
        "path,reason,skipped\nward 3/<script>x</script>.png,the file is empty,no\nward 3/notes.txt,a text,yes\n")
    lines: list[dict[str, Any]] = [{"step": i, "images": 100 * i, "seconds": i, "images_per_second": 100.0,
              "discriminator/loss": 1 / i,
              "generator/loss": 0.5} for i in range(1, 5)]
    lines.append({"event": "resumed", "images": 200, "text": "Training went on after 200 images. <script>"})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "im')
    from PIL import Image as Pillow

    for images in (0, 200, 400):
        Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "previews" / f"{images:09d}.png")
    return folder


def page(run: Path) -> Page:
    return Page(report(run).read_text(encoding="utf-8"))


def test_one_whole_page_with_words_for_every_picture(run: Path) -> None:
    found = page(run)
    assert found.outside == [] and found.silent == []
    assert found.headings[0] == "h1" and found.headings.count("h1") == 1 and found.headings.count("h2") == SECTIONS
    for text in ("100 MR images of 50 patients", "6.0 times as far", "80 synthetic images", "30 patients",
                 "Only 3 held-out",
                 "left lung", "30 images of each kind", "2 (class left lung) to 4 (class right lung)",
                 "black is 0, white 255 grey levels",
                 "train.seconds", "The default.", "abc123", "2.13.0", "after 400 images", "Training went on after 200",
                 "0.40 of the usual distance by pixels", "real against real", "No more synthetic images lie close"):
        assert text in found.text, text
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_the_page_says_which_generator_it_is_about(run: Path) -> None:
    (run / "generator.json").write_text(json.dumps({"sha256": "5f" * 32}))
    assert "report on the network with the weights 5f5f5f5f5f5f5f5f \n" in page(run).text


def test_texts_from_files_are_escaped(run: Path) -> None:
    text = report(run).read_text(encoding="utf-8")
    assert "<script>" not in text and "images. &lt;script&gt;" in text


def test_rejected_files_are_counted_and_not_named(run: Path) -> None:
    assert "This page shows real images" in page(run).text
    (run / "pictures" / "real.npy").unlink()
    text = page(run).text
    assert "1 could not be used. data/rejected.csv" in text and "This page shows real" in text
    (run / "pictures" / "neighbours.npy").unlink()  # the last picture of a real image
    text = page(run).text
    assert "This page shows real" not in text
    assert not any(name in text for name in ("ward 3", "the file is empty", run.name))


@pytest.mark.parametrize("missing", [
    "results.json", "spec.json", "plan.json", "log.jsonl", "inspection.json", "data/rejected.csv", "versions.json",
    "settings.yaml", "pictures/synthetic.npy", "pictures/neighbours.npy",
])
@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_what_is_missing_or_damaged_is_left_out_with_a_sentence(run: Path, missing: str, fault: str) -> None:
    (run / missing).unlink()
    if fault == "damaged":
        (run / missing).write_bytes(b'{"spec": 3, "measurements": [1, "context": \xff')
    found = page(run)
    assert found.headings.count("h2") == SECTIONS
    assert "Undefined" not in found.text and "Traceback" not in found.text


def test_a_setting_that_was_given_is_told_in_place_of_what_the_plan_had(run: Path) -> None:
    (run / "settings.yaml").write_text("train:\n  seconds: 60\n")
    assert "60 As asked for. The plan had 300: The default." in " ".join(page(run).text.split())


def test_a_table_of_the_wrong_kind_is_left_out(run: Path) -> None:
    (run / "plan.json").write_text("[1, 2]")
    (run / "spec.json").write_text('{"spec": []}')
    assert "could not be read" in page(run).text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="not a run folder"):
        report(tmp_path)


def test_a_virtual_cohort_is_called_so(run: Path) -> None:
    (run / "spec.json").write_text(json.dumps(SPEC | {"spec": SPEC["spec"] | {"virtual": True}}))
    text = page(run).text
    assert "Virtual cohort." in text and "50 virtual patients" in text and "Treat it like the data" not in text
    assert "Real: patients" not in text


def test_volumes_and_colours_are_shown(run: Path) -> None:
    for shape in ((4, 1, 6, 8, 10), (4, 3, 12, 12), (4, 2, 12, 12)):
        for name in ("real", "synthetic"):
            np.save(run / "pictures" / f"{name}.npy", np.zeros(shape, np.uint8))
        assert "Taken evenly over both sets" in page(run).text


@pytest.mark.parametrize(("value", "sign"), [(0.9, "good"), (0.78, "good"), (0.6, "note"), (0.3, "warning")])
def test_images_with_masks_have_a_verdict_on_these(run: Path, value: float, sign: str) -> None:
    one = {"name": "mask_agreement", "title": "Agreement", "better": "higher", "meaning": "", "n": 60, "value": value,
           "low": value - 0.03, "high": value + 0.03, "floor": 0.8, "floor_low": 0.78, "floor_high": 0.82}
    (run / "results.json").write_text(json.dumps(RESULTS | {"measurements": [*RESULTS["measurements"], one]}))
    found, = (one for one in verdicts(RunFiles(run)) if one.heading == "Masks")
    assert found.sign == sign and "0.800" in found.text
    assert "Masks" not in [one.heading for one in verdicts(RunFiles(run, without=("results.json",)))]


AUC = {"value": 0.51, "low": 0.45, "high": 0.57}
STRENGTH = {"auc": AUC, "hits": {"value": 0.01, "low": 0.0, "high": 0.03}}
AUDIT: dict[str, Any] = {
    "verdict": "No more copies were found than among unseen patients' images.", "passed": True, "limits": ["A limit."],
    "copies": {"count": 0, "share": {"value": 0.0, "low": 0.0, "high": 0.02}, "expected": 0.0075, "threshold": 0.5,
               "nearness": [{"by": "features", "closer": {"value": 0.5, "low": 0.4, "high": 0.6}, "ratio": 1.0}],
               "pairs": [{"synthetic": 3, "training": 9, "likeness": 0.4, "rarity": 0.5, "copy": False},
                         {"synthetic": 5, "training": 2, "likeness": 0.9, "rarity": 0.0, "copy": True}]},
    "attacks": [{"name": "membership_nearness", "title": "Membership by nearness", "meaning": "A meaning.",
                 "main": STRENGTH, "control": STRENGTH, "baseline": STRENGTH, "found": False}],
    "refused": [], "context": {"synthetic_images": 80},
}


def utility(low: float, high: float, value: float = 0.8) -> dict[str, Any]:
    """What a utility study writes, with this interval of the gain."""
    score = {"value": value, "low": value - 0.1, "high": value + 0.1}
    by_class = {"mean": score, "classes": [{"class": name, **score} for name in ("left lung", "right lung")]}
    gain = {"share": 1.0, "value": (low + high) / 2, "low": low, "high": high,
            "verdict": "helps" if low > 0 else "harms" if high < 0 else "open"}
    return {"kind": "classification", "metric": "balanced accuracy", "shares": [1.0], "seeds": 3, "steps": 200,
            "chance": 0.5,
            "network": "a small network", "interval": "95 %", "words": ["A sentence of the study."], "seconds": 60.0,
            "classes": ["left lung", "right lung"], "test": {"images": 60, "patients": 30},
            "arms": [{"share": 1.0, "arm": arm, "images": 100, "patients": 50, **score, "sensitivity": by_class}
                     for arm in ("real", "augmented", "both", "synthetic")],
            "differences": [gain | {"arm": arm, "against": "real"} for arm in ("augmented", "synthetic", "both")]}


def add(run: Path, **documents: dict[str, Any]) -> None:
    for name, document in documents.items():
        (run / f"{name}.json").write_text(json.dumps(document))


def test_audit_and_usefulness_are_in_the_report(run: Path) -> None:
    add(run, audit=AUDIT, utility=utility(0.01, 0.05))
    np.save(run / "pictures" / "audit_pairs.npy", np.zeros((2, 2, 1, 16, 16), np.uint8))
    found = page(run)
    for text in ("Nothing found", "0.510", "A limit.", "likeness 0.90", "+3.0 points (+1.0 to +5.0): helps",
                 "A sentence of the study.", "No leak was found", "60 s", "0.167 Wh"):
        assert text in found.text, text
    assert found.text.count("Copy.") == 1
    assert found.silent == []


def test_what_readers_said_is_in_the_report(run: Path) -> None:
    assert "No reader has judged" in report(run).read_text(encoding="utf-8")
    share = {"value": 0.55, "low": 0.4, "high": 0.7, "n": 40}
    one = {"reader": "r-1", "accuracy": share, "area": 0.58, "taken_for_real": share, "called_synthetic": share}
    found = {"images": 40, "synthetic": 20, "real": "test", "readers": [one], "accuracy": share, "area": share,
             "kappa": None, "words": "One reader called 55% of the images rightly."}
    (run / "study").mkdir()
    (run / "study" / "results.json").write_text(json.dumps(found), encoding="utf-8")
    page = report(run).read_text(encoding="utf-8")
    assert page.count("One reader called 55% of the images rightly.") == 2, "in its section and in the scorecard"
    assert "r-1" in page and "nobody has finished a reader study" not in page


def test_pairs_that_are_no_copies_are_not_called_so(run: Path) -> None:
    assert "Copy." not in page(run).text


def test_pictures_of_control_are_shown_with_words(run: Path) -> None:
    from PIL import Image as Pillow

    (run / "control").mkdir()
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(run / "control" / "truncation.png")
    (run / "control" / "control.json").write_text(json.dumps({"words": ["It can be steered."],
                                                               "pictures": ["truncation.png", "gone.png"]}))
    found = page(run)
    assert found.headings.count("h2") == SECTIONS + 1 and "It can be steered." in found.text


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
    add(run, utility=utility(0.01, 0.05) | {"generator_saw": "unknown"}, audit=AUDIT | {"context": {"of_run": False}})
    assert answers(run)["Usefulness"] == answers(run)["Privacy"] == ("open", "Other images")
    assert "Do not give these images away before" in bottom_line(verdicts(RunFiles(run)))


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


def test_what_nobody_can_use_is_said_at_the_top(run: Path) -> None:
    text = "Samples of class x are all alike."
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"event": "not usable", "images": 9, "text": text}) + "\n")
    assert ("Mind", text) in facts(RunFiles(run))


def test_the_bottom_line_knows_a_test_that_showed_nothing_and_readers(run: Path) -> None:
    near = [one | {"value": one["floor"], "low": one["floor_low"], "high": one["floor_high"]}
            for one in RESULTS["measurements"]]
    study = utility(-0.05, 0.05)
    study["differences"].append({"share": 1.0, "arm": "both", "against": "augmented", "verdict": "harms"})
    add(run, results=RESULTS | {"measurements": near}, utility=study)
    found = verdicts(RunFiles(run))
    assert bottom_line(found).startswith("A test on real patients did not show that these images help")
    assert "Classical augmentation of the real images alone does better." in found[2].text
    helps = utility(0.01, 0.05)
    helps["differences"].append({"share": 1.0, "arm": "both", "against": "augmented", "verdict": "harms"})
    add(run, utility=helps)
    assert answers(run)["Usefulness"] == ("note", "Less than augmentation")
    assert "but classical augmentation of real ones does more" in bottom_line(verdicts(RunFiles(run)))
    assert limits(RunFiles(run))[0] == "No doctor has judged the images."
    (run / "study").mkdir()
    (run / "study" / "results.json").write_text(json.dumps({"readers": [{}, {}]}))
    assert limits(RunFiles(run))[0] == "2 readers judged a sample of the images, blinded: see Readers."


def test_copies_are_a_warning_not_a_tick(run: Path) -> None:
    copied = [one | {"value": 0.05} if one["name"] == "copies" else one for one in RESULTS["measurements"]]
    add(run, results=RESULTS | {"measurements": copied})
    privacy = next(one for one in verdicts(RunFiles(run)) if one.heading == "Privacy")
    assert privacy.sign == "warning" and privacy.text.startswith("3 synthetic images of 60 look copied")
    assert "Do not give these images away as they are" in bottom_line(verdicts(RunFiles(run)))


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


def test_the_scorecard_has_all_seven_and_invents_nothing(run: Path) -> None:
    (run / "results.json").unlink()
    cards = scorecard(RunFiles(run))
    assert [one.name for one in cards] == list(QUESTIONS) and len(cards) == 7
    assert not any(one.measurements for one in cards)
    assert all("Nothing: 'radsynth evaluate' has not been run." in one.open for one in cards)
    report(run)
    assert [one["name"] for one in json.loads((run / "report.json").read_text())["scorecard"]] == list(QUESTIONS)


def test_every_measurement_has_its_place_in_the_scorecard() -> None:
    names = [name for places in NUMBERS.values() for name in places]
    assert sorted(names) == sorted({number.name for module in modules().values() for number in module.NUMBERS}
                                   | {AGREEMENT.name})


def test_a_run_that_could_not_be_measured_says_so(run: Path) -> None:
    add(run, results={"measurements": [], "refused": [{"name": "all", "title": "Every number", "reason": "Too few."}]})
    found = page(run)
    assert "Every number: Too few." in found.text and "Not measured" in found.text
    assert [one.text for one in verdicts(RunFiles(run))][:2] == ["Too few."] * 2, "not 'nobody has measured'"


def test_what_could_not_be_measured_is_shown(run: Path) -> None:
    write_unmeasured(run, np.zeros((6, 1, 16, 16), np.uint8), "Too few.")
    assert not (run / "pictures" / "real.npy").exists(), "pictures of an earlier evaluation are gone"
    html = report(run).read_text(encoding="utf-8")
    assert "6 synthetic images in rows of" in html and "Too few." in html and "has not been run" not in html.partition(
        "Usefulness")[0]


@pytest.mark.parametrize(("value", "unit", "text"), [
    (0.5, "share", "50 %"), (0.0123, "share", "1.2 %"), (0.0, "share", "0 %"), (1234.5, "", "1,234"),
    (19.96, "", "20.0"), (-1.67, "", "\u22121.67"), (0.0, "HU", "0 HU"), (5.541, "HU", "5.54 HU"),
    (0.00012, "", "0.00012"),
])  # fmt: skip
def test_figures_are_written_for_readers(value: float, unit: str, text: str) -> None:
    assert figure(value, unit).replace("\u00a0", " ") == text


def test_intervals_name_the_unit_once() -> None:
    assert interval(0.1, 0.25, "share").replace("\u00a0", " ") == "10 to 25 %"
    assert interval(1, 2, "HU").replace("\u00a0", " ") == "1.00 to 2.00 HU"


def test_verdicts_follow_the_intervals() -> None:
    assert verdict(MEASURED | {"name": "frechet_distance"}) == ("warning", "far above real images")
    assert verdict(MEASURED | {"name": "frechet_distance", "low": 21.0, "value": 30.0}) == ("good", "as real images")
    touching = SHARE | {"name": "recall", "high": 0.9, "excess": -0.4, "excess_low": -0.5, "excess_high": -0.1}
    assert verdict(touching)[0] == "note"
    below = MEASURED | {"better": "down to floor", "value": 10.0, "low": 9.0, "high": 11.0, "name": "kernel_distance"}
    assert verdict(below) == ("good", "as real images")
    assert verdict(SHARE | {"name": "recall"}) == ("note", "below real images")


def test_every_number_is_explained(repository: Path) -> None:
    text = (repository / "docs" / "numbers.md").read_text(encoding="utf-8")
    names = {number.name for module in modules().values() for number in module.NUMBERS} | {AGREEMENT.name}
    assert names == {name for name in re.findall(r"\(`(\w+)`", text)}
    files = {"utility.json": ("value", "dice", "sensitivity", "auc", "differences"),
             "audit.json": ("share", "closer", "hits", *_attacks()), "report.json": ("effort",),
             "results.json": (*_of_pairs(), "differences", "ranking"),
             "study/results.json": ("accuracy", "area", "taken_for_real", "called_synthetic", "kappa")}
    told = set(re.findall(r"`([\w./]+json:\s\w+)`", text))
    missing = [f"{file}: {name}" for file, named in files.items() for name in named
               if f"{file}: {name}" not in {" ".join(one.split()) for one in told}]
    assert not missing


def _of_pairs() -> list[str]:
    """The names of all numbers on results against the truth, from the code that measures them; labels share one."""
    code = "".join(inspect.getsource(module) for module in (label_numbers, registration))
    found = re.findall(r'Found\(\s*name=f?"([a-z_0-9]+?)(?:_\{value\})?"', code)
    assert len(found) >= 7
    return [*found, *(number.name for number in PAIR_NUMBERS)]


def _attacks() -> list[str]:
    """The names of all attacks, from the code that tries them."""
    found = re.findall(r'attempt\("(\w+)"', inspect.getsource(_audit_attacks))
    assert len(found) >= 3
    return found


def test_every_number_is_explained_in_two_sentences(repository: Path) -> None:
    text = (repository / "docs" / "numbers.md").read_text(encoding="utf-8")
    for entry in re.findall(r"^\*\*(.+?)(?=\n\n)", text, re.S | re.M):
        _, *sentences = re.findall(r"[.?](?:\s|$)", entry)
        assert len(sentences) == 2, entry


def test_ct_is_shown_in_its_window() -> None:
    spec = ImageSpec(size=(16, 16), units="HU", modality="CT", window=(-160.0, 240.0))
    intensity = IntensityMap(method="window", low=-1024.0, high=1500.0, levels=65535)
    values = np.asarray([-1000.0, -160.0, 40.0, 240.0, 1000.0], np.float32)
    network = (2 * (values + 1024) / 2524 - 1).astype(np.float32)
    shown = shades(network, black_and_white(shown_window(spec), intensity))
    assert shown.tolist() == [0, 0, 127, 255, 255] or shown.tolist() == [0, 0, 128, 255, 255]
    assert shown_window(ImageSpec(size=(16, 16), units="stored", window=(0.0, 1.0))) is None
    assert black_and_white(None, intensity) == (-1.0, 1.0)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_telephone_and_asks_for_nothing(run: Path, scheme: str) -> None:
    api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    add(run, audit=AUDIT, utility=utility(0.01, 0.05))
    asked: list[str] = []
    with api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.on("request", lambda request: asked.append(request.url))
            page.goto(report(run).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []

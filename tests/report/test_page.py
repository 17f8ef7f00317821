"""The page: whole, escaped, with words for every picture, and what is missing told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError
from radsynth.verbs import report as reporting
from radsynth.verbs._evaluating.options import Settings
from radsynth.verbs._evaluating.sides import Source, choose
from radsynth.verbs._pairs.document import refused
from radsynth.verbs._report import pictures
from radsynth.verbs._report.training import course
from radsynth.verbs._report.verdicts import verdicts
from radsynth.verbs._run_files import RunFiles
from radsynth.verbs.evaluate import write_unmeasured
from radsynth.verbs.report import report
from tests.report.examples import AUDIT, RESULTS, SPEC, add, page, utility

SECTIONS = 11
"""Headings of the second level, without those of tasks from image to image and of control."""


def test_weights_that_change_while_it_is_made_are_read_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that ends sets aside what was measured with the former weights: half of the page was still of those."""
    (run / "generator.json").write_text(json.dumps({"sha256": "5f" * 32}))
    card = reporting._cards

    def ended(folder: Path) -> list[tuple[Path, str]]:
        (run / "results.json").unlink(missing_ok=True)
        (run / "generator.json").write_text(json.dumps({"sha256": "a0" * 32}))
        return card(folder)

    monkeypatch.setattr(reporting, "_cards", ended)
    changed = report(run).read_text()
    monkeypatch.undo()
    assert "a0" * 8 in changed and changed == report(run).read_text()


def test_one_whole_page_with_words_for_every_picture(run: Path) -> None:
    found = page(run)
    assert found.outside == [] and found.silent == []
    assert found.headings[0] == "h1" and found.headings.count("h1") == 1 and found.headings.count("h2") == SECTIONS
    for text in ("100 MR images of 50 patients", "6.0 times that of other real images", "80 synthetic images",
                 "30 patients", "60 real (of 30 patients) against",
                 "Only 3 held-out",
                 "left lung", "30 images of each kind", "2 (class left lung) to 4 (class right lung)",
                 "black is 0, white 255 grey levels",
                 "train.seconds", "The default.", "abc123", "2.13.0", "after 400 images", "Training went on after 200",
                 "0.40 of the usual distance by pixels", "real against real", "No more synthetic images lie close"):
        assert text in found.text, text
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_grey_levels_are_whole_where_they_are(run: Path) -> None:
    spec = json.loads((run / "spec.json").read_text())
    for low, high, told in ((5.0, 1493.0, "black is 5, white 1,493"), (-2, 0.5, "black is \u22122, white 0.500")):
        spec["intensity"] |= {"low": low, "high": high}
        (run / "spec.json").write_text(json.dumps(spec))
        assert told in page(run).text
    spec["intensity"] |= {"low": 28.215620040893555, "high": 946.5857238769531, "method": "percentiles"}
    (run / "spec.json").write_text(json.dumps(spec))
    text = page(run).text
    assert "black is 28.2, white 947 grey levels (medians: each real image is shown between percentiles of" in text
    assert "28.2 to 947 grey levels at most" in text


def test_the_page_says_which_generator_it_is_about(run: Path) -> None:
    (run / "generator.json").write_text(json.dumps({"sha256": "5f" * 32}))
    assert "report on the network with the weights 5f5f5f5f5f5f5f5f \n" in page(run).text


def test_texts_from_files_are_escaped(run: Path) -> None:
    text = report(run).read_text(encoding="utf-8")
    assert "<script>" not in text and "images. &lt;script&gt;" in text


def test_rejected_files_are_counted_and_not_named(run: Path) -> None:
    text = page(run).text
    assert "This page shows real images" in text and "Real and synthetic, at the same scale" in text
    (run / "pictures" / "real.npy").unlink()
    text = page(run).text
    assert "Taken evenly over both sets" not in text and "Real and synthetic" not in text, "there are no others beside"
    assert "1 file could not be used. data/rejected.csv" in text and "This page shows real" in text
    (run / "pictures" / "neighbours.npy").unlink()  # the last picture of a real image
    text = page(run).text
    assert "This page shows real" not in text
    assert not any(name in text for name in ("ward 3", "the file is empty", run.name))


def test_what_was_left_out_without_being_rejected_is_told(run: Path) -> None:
    assert "second copies" not in page(run).text
    (run / "data" / "manifest.json").write_text(json.dumps({"rejected": 1, "duplicates": 1200, "left_out": 3}))
    assert "second copies of images: 1,200; slices of background: 3." in page(run).text
    (run / "data" / "manifest.json").write_text(json.dumps({"rejected": 1, "duplicates": 0, "left_out": 3}))
    assert "Left out besides: slices of background: 3." in page(run).text


def test_classes_that_are_equally_far_are_not_told_apart(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    for one in results["classes"].values():
        one["measurements"][0]["value"] = 60
    (run / "results.json").write_text(json.dumps(results))
    text = page(run).text
    assert "2 (class left lung)" not in text and re.search(r"[0-9.]+, in all", text)


def test_a_class_whose_unseen_images_are_of_one_patient_is_told(run: Path) -> None:
    """Its intervals are over that patient's images, and stood among those over patients."""
    results = json.loads((run / "results.json").read_text())
    told = "the unseen ones of one patient: the intervals do not tell how patients differ"
    for patients, times in ((2, 0), (1, len(results["classes"]))):
        for one in results["classes"].values():
            one["held_out_patients"] = patients
        (run / "results.json").write_text(json.dumps(results))
        assert page(run).text.count(told) == times


@pytest.mark.parametrize(("missing", "gone", "damaged"), [
    ("results.json", "Nothing has been measured yet", "results.json is damaged."),
    ("plan.json", "No plan was made", "plan.json is damaged."),
    ("inspection.json", "The source was not inspected in this run.", "inspection.json is damaged."),
    ("data/rejected.csv", "holds no table of rejected files.", "data/rejected.csv is damaged."),
    ("settings.yaml", "The run folder holds no settings.", "could not be read."),
    ("pictures/synthetic.npy", *2 * ("No pictures were kept in this run folder.",)),
    ("pictures/neighbours.npy", *2 * ("No pictures of the closest pairs were kept",)),
    ("spec.json", "", ""), ("log.jsonl", "", ""), ("versions.json", "", ""),  # others say what belongs there, too
])
@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_what_is_missing_or_damaged_is_left_out_with_a_sentence(
    run: Path, missing: str, gone: str, damaged: str, fault: str
) -> None:
    sentence = gone if fault == "gone" else damaged
    assert not sentence or sentence not in page(run).text
    (run / missing).unlink()
    if fault == "damaged":
        (run / missing).write_bytes(b'{"spec": 3, "measurements": [1, "context": \xff')
    found = page(run)
    assert found.headings.count("h2") == SECTIONS and sentence in found.text


def test_a_setting_that_was_given_is_told_in_place_of_what_the_plan_had(run: Path) -> None:
    (run / "settings.yaml").write_text("train:\n  seconds: 60\n")
    assert "60 As asked for. The plan had 300: The default." in " ".join(page(run).text.split())
    (run / "plan.json").write_text('[{"setting": "train.seconds", "value": 300, "reason": "As asked for."}]')
    assert "60 As asked for. The plan" not in (text := " ".join(page(run).text.split())) and "60 As asked for." in text


def test_a_table_of_the_wrong_kind_is_left_out(run: Path) -> None:
    (run / "plan.json").write_text("[1, 2]")
    (run / "spec.json").write_text('{"spec": []}')
    assert "could not be read" in page(run).text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="not a run folder"):
        report(tmp_path)


def test_whose_weights_training_began_with_is_told_on_page_and_card(run: Path) -> None:
    def told(start: str) -> str:
        (run / "settings.yaml").write_text(f"train:\n  start: {start}\n")
        (run / "generator.json").write_text(json.dumps({"model": "sngan", "task": "synthesis", "images": 3, "steps": 1,
                                                        "sha256": "f00"}))
        text = page(run).text
        card = (run / "README.md").read_text(encoding="utf-8")
        found = next((line for line in card.splitlines() if "Started from" in line), "")
        assert ("Started from" in text) == bool(found)
        return found

    assert "of chest_28, learned from PneumoniaMNIST" in told("chest_28") and "CC BY 4.0" in told("chest_28")
    assert "of run 0123abcd, learned from what the page of that run tells" in told("run 0123abcd")
    assert "copies of them were not looked for" in told("run 0123abcd") and not told("''")


def test_nobody_is_sent_to_a_test_of_usefulness_that_cannot_be_made(run: Path) -> None:
    assert "radsynth utility" not in page(run).text
    (run / "spec.json").write_text(json.dumps(SPEC | {"spec": SPEC["spec"] | {"labels": ["a", "b"]}}))
    assert page(run).text.count("radsynth utility") == 3


def test_a_virtual_cohort_is_called_so(run: Path) -> None:
    (run / "spec.json").write_text(json.dumps(SPEC | {"spec": SPEC["spec"] | {"virtual": True}}))
    text = page(run).text
    assert "Virtual cohort." in text and "50 virtual patients" in text and "Treat it like the data" not in text
    assert "Real: patients" not in text


def test_audit_and_usefulness_are_in_the_report(run: Path) -> None:
    add(run, audit=AUDIT, utility=utility(0.01, 0.05))
    np.save(run / "pictures" / "audit_pairs.npy", np.zeros((2, 2, 1, 16, 16), np.uint8))
    found = page(run)
    for text in ("Nothing found", "0.510", "A limit.", "control 1.0 %", "baseline 1.0 %", "chance 2.2 %",
                 "45 training images against 45 unseen ones of 40 patients", "likeness 0.90",
                 "60 real images that training never saw and of as many synthetic ones",
                 "+3.0 points (+1.0 to +5.0): helps",
                 "A sentence of the study.", "No leak was found", "60 s", "0.167 Wh"):
        assert text in found.text, text
    assert found.text.count("Copy.") == 1
    assert found.silent == []
    add(run, utility=utility(-0.02, 0.04))
    assert "+1.0 points (\u22122.0 to +4.0): not decided" in page(run).text, "as other differences are called"


def test_pairs_that_nobody_can_judge_are_shown_after_those_that_can_be(run: Path) -> None:
    pairs = [{"synthetic": 3, "training": 9, "likeness": 0.97}, {"synthetic": 5, "training": 2, "likeness": 0.4}]
    add(run, audit=AUDIT | {"copies": None, "closest": pairs})
    np.save(run / "pictures" / "audit_pairs.npy", np.zeros((2, 2, 1, 16, 16), np.uint8))
    assert "found by the evaluation." in page(run).text and "0.97" not in page(run).text
    add(run, results={**RESULTS, "measurements": [], "neighbours": pairs[:1]})
    text = page(run).text
    assert "found by the audit, at the best shift" in text and "Image 5: likeness 0.40 (1 is the same image)." in text
    assert "nobody can say whether a pair is closer than chance" in text and "Copy." not in text
    (run / "audit.json").unlink()
    text = page(run).text
    assert "found by the evaluation, at the best shift" in text and "Image 3: likeness 0.97" in text
    assert "From so few images copies cannot be told from chance" in text


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


def test_pictures_of_control_are_shown_with_words(run: Path) -> None:
    (run / "control").mkdir()
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(run / "control" / "truncation.png")
    (run / "control" / "control.json").write_text(json.dumps({"words": ["It can be steered."],
                                                               "pictures": ["truncation.png", "gone.png"]}))
    found = page(run)
    assert found.headings.count("h2") == SECTIONS + 1 and "It can be steered." in found.text


def test_a_run_that_could_not_be_measured_says_so(run: Path) -> None:
    add(run, results={"measurements": [], "refused": [{"name": "all", "title": "Every number", "reason": "Too few."}]})
    found = page(run)
    assert "Every number: Too few." in found.text and "Not measured" in found.text
    assert [one.text for one in verdicts(RunFiles(run))][:2] == ["Too few."] * 2, "not 'nobody has measured'"


def test_results_that_could_not_be_held_against_the_truth_are_no_synthetic_images(run: Path) -> None:
    """With one held-out volume the page spoke of realism, privacy and a verb that would measure them."""
    why = "There are fewer than two images of patients outside of training."
    add(run, generator={"task": "translate"})
    refused(why, run)
    report(run)
    found = json.loads((run / "report.json").read_text())
    assert [(one["heading"], one["sign"], one["text"]) for one in found["verdicts"]] == [("Quality", "open", why)]
    assert "its results are no acquisition" in found["bottom_line"] and not found["scorecard"]
    assert not {"scorecard", "privacy", "usefulness"} & page(run).anchors


@pytest.mark.parametrize(("task", "subject", "left_out"), [
    ("synthesis", "Synthetic images", set()), ("semantic", "Synthetic images", set()),
    ("cut", "Translated images", {"usefulness", "privacy"}),
    ("register", "Registered images", {"usefulness", "privacy", "scorecard"}),
    ("of_tomorrow", "Synthetic images", set())])
def test_what_the_page_is_about_is_what_the_task_says(run: Path, task: str, subject: str, left_out: set[str]) -> None:
    add(run, generator={"task": task})
    found = page(run)
    assert subject in found.text
    assert {"usefulness", "privacy", "scorecard"} - found.anchors == left_out


@pytest.mark.parametrize(("task", "verbs"), [
    ("synthesis", {"serve", "utility", "audit", "control", "explain"}),
    ("semantic", {"serve", "utility", "audit", "control", "explain"}),
    ("cut", {"utility", "control", "explain"}),
    ("cycle", {"utility", "control", "explain"})])
def test_the_page_sends_nobody_to_a_verb_that_refuses_the_run(run: Path, task: str, verbs: set[str]) -> None:
    add(run, spec={**SPEC, "spec": {**SPEC["spec"], "labels": ["healthy", "ill"]}},
        generator={"task": task, "model": "unet", "images": 16, "steps": 1, "sha256": "5f" * 32})
    text = page(run).text
    open_points = json.loads((run / "report.json").read_text())["scorecard"]
    told = " ".join(point for one in open_points for point in one["open"])
    assert set(re.findall(r"'radsynth (\w+)", told)) == verbs
    assert ("have not been run" in told) == (task == "synthesis"), "control and explain need noise alone"
    assert ("--synthetic DIR" in told) == ("audit" not in verbs) == ("the same image gives the same result" in text)
    assert ("of the same masks and random numbers" in text) == (task == "semantic")


def test_what_hides_real_images_is_said_of_those_that_are_there(run: Path) -> None:
    """The page said to remove a folder `explain` that there was not."""
    def told() -> set[str]:
        shown = page(run).text.partition("This page shows real images")[2].partition("report again")[0]
        return {name for name in ("evaluate", "audit", "explain") if name in shown}

    assert told() == {"evaluate"}
    np.save(run / "pictures" / "audit_pairs.npy", np.zeros((1, 2, 1, 16, 16), np.uint8))
    assert told() == {"evaluate", "audit"}
    (run / "explain").mkdir()
    (run / "explain" / "explain.json").write_text("{}")
    assert told() == {"evaluate", "audit", "explain"}
    for name in ("real", "neighbours", "audit_pairs"):
        (run / "pictures" / f"{name}.npy").unlink()
    assert told() == {"explain"}


@pytest.mark.parametrize(("task", "words"), [
    ("segment", "can miss a finding and mark one where there is none"), ("register", "A warp squeezes or stretches"),
    ("restore", "can invent or remove findings")])
def test_what_results_are_meant_for_is_said_of_their_task(run: Path, task: str, words: str) -> None:
    add(run, generator={"task": task})
    refused("There are no patients outside of training.", run)
    assert page(run).text.count(words) == 2, "at the top and under the limits"
    assert words in json.loads((run / "report.json").read_text())["bottom_line"]


def test_what_could_not_be_measured_is_shown(run: Path, make_prepared: Callable[..., Path]) -> None:
    data = make_prepared(9)
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["spec"] |= {"units": "HU", "window": [-160.0, 240.0]}
    (data / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError) as refused:
        choose(*(Source(images=np.zeros((n, 1, 16, 16))) for n in (0, 9)),
              {"": Source(images=np.zeros((6, 1, 16, 16)))}, images=9, training_images=9, seed=0)
    write_unmeasured(Prepared(data), np.zeros((6, 1, 16, 16), np.float32), str(refused.value), Settings(), run)
    assert not (run / "pictures" / "real.npy").exists(), "pictures of an earlier evaluation are gone"
    html = report(run).read_text(encoding="utf-8")
    assert "black is \u2212160, white 240 " in html, "what the pictures are shown in"
    assert "6 synthetic images in rows of" in html and "has not been run" not in html.partition("Usefulness")[0]
    said = "Nothing could be measured. There are too few images: 0 held-out real, 9 training and 6 synthetic ones."
    assert html.count(said) == 2 and "Nothing can be" not in html, "in the scorecard, and where intensities would be"
    assert "could not be read" not in html


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_telephone_and_asks_for_nothing(run: Path, browser: Any, scheme: str) -> None:
    add(run, audit=AUDIT, utility=utility(0.01, 0.05))
    with (run / "log.jsonl").open("a") as log:  # a long word: the folder of former weights
        log.write(f'\n{{"event": "set aside", "images": 400, "text": "They are in earlier/{"d6e5136d" * 4}."}}\n')
    classes = {"adenocarcinoma_of_the_left_lower_lobe" * 4: RESULTS["classes"]["left lung"]}
    add(run, results=RESULTS | {"classes": classes})
    asked: list[str] = []
    for width in (390, 1280):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report(run).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        table = page.locator("[aria-labelledby=training] .scroll")
        assert table.evaluate("one => one.scrollWidth <= one.clientWidth"), "no word is cut off"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_a_task_without_one_loss_is_told_by_its_terms_and_distances_are_shown(run: Path) -> None:
    lines = [{"step": i, "images": 100 * i, "seconds": i, "generator/dice": 1 / i, "generator/entropy": 0.1,
              "generator/gradient_norm": 9.0, "discriminator/loss": 0.5, "discriminator/real": 0.1, "doctor/rate": 1.0,
              "selection/distance": 70.0} for i in range(1, 5)]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = RunFiles(run)
    charts = {one["title"]: one["svg"] for one in course(found)["charts"]}
    assert list(charts) == ["Terms of the loss, as weighted", "Loss of the discriminator",
                            "Scores that the discriminator gives (higher: more real)",
                            "Distance of samples to validation images (lower: closer)"]
    terms = charts["Terms of the loss, as weighted"]
    assert "labels do not overlap (Dice)" in terms and "cross-entropy" in terms and "norm" not in terms
    assert "generator" not in terms


def test_a_number_of_fewer_images_says_so(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    results["measurements"][1]["n"] = 40
    (run / "results.json").write_text(json.dumps(results))
    assert page(run).text.count("40 images of each kind.") == 1 and "60 images of each kind." not in page(run).text


def test_logged_terms_are_called_in_plain_words() -> None:
    names = {"generator/adversarial": "discriminator is not deceived", "discriminator/loss": "discriminator",
             "translators/t1_cycle": "t1: there and back differ",
             "generator/anything_else": "generator anything else"}
    assert {name: pictures.called(name) for name in names} == names

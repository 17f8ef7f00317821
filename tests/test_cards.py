from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from radsynth.errors import FolderError
from radsynth.settings import resolve
from radsynth.verbs._report.cards import SIZES, write_dataset_card, write_model_card
from radsynth.verbs._report.claim import ITEMS, NOT_STATED, claim
from radsynth.verbs._report.scorecard import scorecard
from radsynth.verbs._run_files import RunFiles
from radsynth.verbs.generate import generate
from radsynth.verbs.report import report
from radsynth.verbs.train import train
from tests.report.examples import RESULTS, SPEC, add

DATASET_KEYS = {"pretty_name", "license", "annotations_creators", "size_categories", "task_categories", "tags"}
MODEL_KEYS = {"library_name", "license", "tags", "pipeline_tag"}
"""Keys of Hugging Face's metadata of data sets and models that the cards use."""
TASKS = {"unconditional-image-generation", "image-classification", "image-segmentation", "image-to-image"}
WEIGHTS = {"images": 400, "steps": 20, "seconds": 12.0, "model": "sngan", "task": "synthesis", "sha256": "f" * 64}
REQUEST = {"count": 3, "format": "picture", "label": None, "truncation": 1.0, "seed": 7, "weights": "f" * 64}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder after `generate`: with weights and images, and nothing measured."""
    folder = tmp_path / "scans"
    (folder / "synthetic").mkdir(parents=True)
    spec = SPEC["spec"] | {"bits": 8, "format": "picture", "labels": ["a|b", "<i>c</i>"]}
    intensity = {"method": "range", "low": 0, "high": 255}
    add(folder, spec=SPEC | {"spec": spec, "intensity": intensity}, generator=WEIGHTS,
        versions={"torch": "2.13.0", "threads": "2"})
    (folder / "settings.yaml").write_text("seed: 7\ntask: {kind: synthesis}\nmodel: {kind: sngan}\n")
    (folder / "synthetic" / "generate.json").write_text(json.dumps(REQUEST))
    (folder / "synthetic" / "samples.csv").write_text(
        "file,index,seed,label\n0.png,0,7,a|b\n1.png,1,7,a|b\n2.png,2,7,<i>c</i>\n")
    return folder


def test_a_full_disk_is_told_when_the_cards_of_a_report_do_not_fit(
    run: Path, small_disk: tuple[Path, Callable[[], None]],
) -> None:
    disk, free = small_disk
    if not os.path.ismount(disk):
        pytest.skip("no file system can be mounted here")
    copy = Path(shutil.copytree(run, disk / run.name))
    report(run)
    written = ("report.json", "report.html")
    room = sum(-(-(run / name).stat().st_size // os.statvfs(disk).f_frsize) for name in written)
    (disk / "other").write_bytes(bytes((os.statvfs(disk).f_bavail - room) * os.statvfs(disk).f_frsize))
    with pytest.raises(FolderError, match=r"README\.md could not be written: No space left on device.*Free some space"):
        report(copy)
    free()
    report(copy)
    for name in (*written, "README.md", "CLAIM.md", "synthetic/README.md"):
        assert (copy / name).read_text() == (run / name).read_text()


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The front matter and the text below it."""
    found = re.fullmatch(r"---\n(.*?)\n---\n(.*)", path.read_text(encoding="utf-8"), re.S)
    assert found
    front = yaml.safe_load(found[1])
    assert isinstance(front, dict)
    return front, found[2]


def test_the_data_set_card_has_valid_front_matter_and_facts_only(run: Path) -> None:
    write_dataset_card(run / "synthetic", run)
    front, text = read(run / "synthetic" / "README.md")
    assert set(front) == DATASET_KEYS and set(front["task_categories"]) <= TASKS
    assert front["size_categories"] == ["n<1K"] and front["license"] == "unknown" and "synthetic" in front["tags"]
    assert "&lt;i>c&lt;/i> 1, a\\|b 2" in text and "Nothing was measured." in text and "f" * 64 in text
    assert "Licence: not stated" in text and "synthetic" in text and "<i>" not in text


def test_the_data_set_card_says_when_numbers_are_of_other_images(run: Path) -> None:
    add(run, results=RESULTS)
    write_dataset_card(run / "synthetic", run)
    _, text = read(run / "synthetic" / "README.md")
    assert "Measured on these images" in text and "| Fréchet distance | 120 | 110 to 130 | 20.0 |" in text
    other = run / "other"
    other.mkdir()
    (other / "samples.csv").write_text((run / "synthetic" / "samples.csv").read_text())
    for change, words in (({"truncation": 0.5}, "(truncation differ)"), ({"seed": 8}, "drawn in the same way")):
        (other / "generate.json").write_text(json.dumps(REQUEST | change))
        write_dataset_card(other, run)
        text = read(other / "README.md")[1]
        assert words in text and text.index(words) < text.index("| Question | Answer"), "before the verdicts"


def test_the_model_card_has_valid_front_matter(run: Path) -> None:
    write_model_card(run)
    assert "See Privacy below" not in read(run / "README.md")[1], "there is nothing on it below"
    add(run, results=RESULTS)
    write_model_card(run)
    front, text = read(run / "README.md")
    assert set(front) == MODEL_KEYS and front["pipeline_tag"] in TASKS
    for words in ("sngan", "400 images seen in 20 steps", "12 s", "0.067 Wh", "Fréchet distance", "Not audited",
                  "See Privacy below.\n\n## The network"):
        assert words in text, words


def test_tables_of_the_cards_have_equal_columns(run: Path) -> None:
    add(run, results=RESULTS)
    write_model_card(run)
    write_dataset_card(run / "synthetic", run)
    for path in (run / "README.md", run / "CLAIM.md", run / "synthetic" / "README.md"):
        for block in re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.M):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_claim_has_all_items_and_guesses_none(run: Path) -> None:
    assert len(ITEMS) == 44
    known = {number for number, _, answer in claim(RunFiles(run)) if answer != NOT_STATED}
    assert {1, 9, 19, 20, 23, 25} <= known and not known & {2, 5, 13, 14, 36, 44}
    empty = run / "empty"
    empty.mkdir()
    assert {n for n, _, answer in claim(RunFiles(empty)) if answer != NOT_STATED} == {40, 41}


def test_claim_names_the_moment_whose_weights_were_chosen(run: Path) -> None:
    def answer() -> str:
        return next(answer for number, _, answer in claim(RunFiles(run)) if number == 26)

    assert answer() == "The averaged weights at the end of training."
    course = [[300, 9.0], [400, 9.5]]
    chosen = {"images": 300, "distance": 9.0, "samples": 128, "validation_images": 20, "course": course}
    add(run, generator=WEIGHTS | {"chosen": chosen})
    assert "Of 2 moments" in answer() and "20 validation images" in answer() and "after 300 images" in answer()


def test_claim_tells_of_batches_that_grew(run: Path) -> None:
    (run / "settings.yaml").write_text("task: {kind: synthesis}\ntrain: {batch: 16, batch_end: 64, rate: 0.001}\n")
    for images, words in ((320, "20 steps of 16 images, rate 0.001"), (800, "20 steps of 16 and later 64 images")):
        add(run, generator=WEIGHTS | {"images": images})
        assert words in next(answer for number, _, answer in claim(RunFiles(run)) if number == 25)


def test_claim_says_what_was_left_out_and_where_weights_started(run: Path) -> None:
    """A run's inspection.json names no rejected file, so that none is counted there."""
    def answer(item: int) -> str:
        return next(answer for number, _, answer in claim(RunFiles(run)) if number == item)

    assert answer(24) == "Random, from seed 7." and "Left out" not in answer(35)
    add(run, inspection={"n_images": 120, "n_patients": 60, "rejected": []})
    (run / "data").mkdir()
    (run / "data" / "manifest.json").write_text(json.dumps({"rejected": 1234, "duplicates": 2, "left_out": 0}))
    (run / "settings.yaml").write_text("seed: 7\ntask: {kind: synthesis}\ntrain: {start: brain}\n")
    assert answer(35) == ("120 images of 60 patients found. 100 images included. Left out: files that could not be "
                          "used: 1,234; second copies of images: 2; slices of background: 0.")
    assert answer(24) == "The weights of brain; what these have not is random, from seed 7."
    spec = json.loads((run / "spec.json").read_text())
    counts = {name: spec[name] | {"train": spec[name]["train"] + 700} for name in ("counts", "patients")}
    add(run, spec=spec | counts | {"added": {"images": 700, "patients": 700}})
    besides = "Besides, 700 training images from elsewhere (prepare.extra)."
    assert f"found. 100 images included. {besides} Left out" in answer(35), "no more than were found"
    assert answer(19).startswith("train 100 images of ") and answer(19).endswith(besides)


def test_claim_does_not_say_that_patients_are_unknown_where_each_has_one_image(run: Path) -> None:
    document = json.loads((run / "spec.json").read_text())
    for patients, words in (({"train": 100}, "Patient; no patient has two images, or"), ({"train": 50}, "Patient.")):
        add(run, spec=document | {"patients": patients})
        assert next(answer for number, _, answer in claim(RunFiles(run)) if number == 20).startswith(words)


def test_results_of_another_version_leave_cards_without_numbers(run: Path) -> None:
    add(run, results={"measurements": [{"name": "frechet_distance"}], "context": 3})
    write_dataset_card(run / "synthetic", run)
    write_model_card(run)
    assert "Nothing was measured." in read(run / "README.md")[1] + read(run / "synthetic" / "README.md")[1]


@pytest.mark.parametrize(("epsilon", "words"), [(1.0041, "epsilon 1.01 at"), (9.98, "epsilon 9.98 at"),
                                                (10.0, "epsilon 10 at"), (0.3, "epsilon 0.3 at"), (None, "not used")])
def test_a_bound_is_never_rounded_down(epsilon: float | None, words: str, run: Path) -> None:
    add(run, generator=WEIGHTS | {"privacy": {"epsilon": epsilon, "delta": 1e-5}})
    write_model_card(run)
    assert words in read(run / "README.md")[1]


def test_the_scorecard_knows_what_was_learned_with(run: Path) -> None:
    document = json.loads((run / "spec.json").read_text())
    for numbers, words in (([], ("beyond the classes: the", "nothing: no name")),
                           (["age"], ("beyond the classes and the numbers asked for (age): the", "ages, which were"))):
        add(run, spec=document | {"spec": document["spec"] | {"conditions": numbers}})
        told = str([criterion.to_json() for criterion in scorecard(RunFiles(run))])
        assert all(word in told for word in words), told


@pytest.mark.parametrize(("format", "words"), [("png", "text fields of the file"), ("tiff", "text fields of the file"),
                                               ("npz", "an array that says so"),
                                               ("nifti", "the header's description and extension"),
                                               ("metaimage", "a comment and a field of the header")])
def test_the_scorecard_says_how_files_are_marked(format: str, words: str, run: Path) -> None:
    (run / "synthetic" / "generate.json").write_text(json.dumps(REQUEST | {"format": format}))
    facts = dict(fact for one in scorecard(RunFiles(run)) for fact in one.facts)
    assert facts["Marked as synthetic"] == f"every file, by {words}"


def test_sizes_are_hugging_faces() -> None:
    assert [name for _, name in SIZES] == ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M"]


def test_a_card_that_was_removed_comes_anew_and_one_that_is_there_stays(
    make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    run, card = tmp_path / "run", tmp_path / "made" / "README.md"
    train(make_prepared(), run, settings=resolve(overrides=("model.width=8", "train.images=32", "train.previews=0")))
    generate(run, tmp_path / "made", count=2)
    assert "Nothing was measured" in card.read_text()
    add(run, results=RESULTS)
    card.write_text("filled in by hand")
    generate(run, tmp_path / "made", count=2)
    assert card.read_text() == "filled in by hand"
    card.unlink()
    generate(run, tmp_path / "made", count=2)
    assert "Measured on other images of the run" in card.read_text()

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError
from radsynth.metrics import Measurement
from radsynth.verbs._evaluating.ranking import ranking
from radsynth.verbs._evaluating.synthetic import Synthetic
from radsynth.verbs._report.ranked import lead
from radsynth.verbs.evaluate import Settings, evaluate, evaluate_prepared, rank_prepared
from radsynth.verbs.report import report
from tests.report.examples import RESULTS, Page
from tests.test_evaluate import discs, write_pictures

FAST = Settings(repetitions=12, pairs=2)


def measured(value: float, parts: NDArray[np.float64], floor: float = 1.0, name: str = "kernel_distance",
             better: str = "down to floor") -> Measurement:
    floor_parts = np.full(len(parts), floor)
    return Measurement(name=name, title="T", value=value, low=value - 1, high=value + 1, n=50, meaning="M",
                       better=better, floor=floor, floor_low=floor, floor_high=floor,  # type: ignore[arg-type]  # plain text
                       parts=tuple(parts), floor_parts=tuple(floor_parts), units=len(parts))


def test_paired_half_samples_tell_sets_apart_whose_intervals_overlap() -> None:
    shared = np.random.default_rng(0).normal(size=30)
    own = 0.01 * np.random.default_rng(1).normal(size=(2, 30))
    found = ranking({"a": [measured(5.0, 5 + shared + own[0])], "b": [measured(5.5, 5.5 + shared + own[1])]}, 30)
    assert [line["set"] for line in found["ranking"]] == ["a", "b"]
    assert found["ranking"][0]["wins"] == 1 and found["ranking"][1]["losses"] == 1
    (gap,) = found["differences"]
    assert gap["real"] and gap["better"] == "a" and gap["difference"] == pytest.approx(-0.5)
    independent = np.random.default_rng(2).normal(size=30)
    found = ranking({"a": [measured(5.0, 5 + shared)], "b": [measured(5.5, 5.5 + independent)]}, 30)
    assert not found["differences"][0]["real"] and found["differences"][0]["better"] == ""


def test_nearer_to_the_floor_is_better_from_either_side() -> None:
    parts = 0.01 * np.random.default_rng(0).normal(size=30)
    sets = {name: [measured(value, value + parts, name="pair_likeness", better="closer to floor")]
            for name, value in (("low", 0.3), ("high", 1.2))}
    assert [line["set"] for line in ranking(sets, 30)["numbers"][0]["sets"]] == ["high", "low"]


def test_a_distance_below_its_floor_is_no_fault() -> None:
    parts = 0.01 * np.random.default_rng(0).normal(size=30)
    sets = {"above": [measured(1.2, 1.2 + parts)], "below": [measured(0.3, 0.3 + parts)]}
    found = ranking(sets, 30)
    assert [line["set"] for line in found["ranking"]] == ["below", "above"]
    assert found["differences"][0]["better"] == "below"


def test_lower_is_better_where_it_is() -> None:
    parts = 0.01 * np.random.default_rng(0).normal(size=30)
    sets = {name: [measured(value, value + parts, name="copies", better="lower")]
            for name, value in (("many", 0.5), ("few", 0.1))}
    found = ranking(sets, 30)
    assert [line["set"] for line in found["numbers"][0]["sets"]] == ["few", "many"]
    assert found["ranking"] == []  # there is no number that puts sets into an order


def test_intervals_of_many_sets_hold_together() -> None:
    """Of 40 rankings of five equal sets about 2 claim any difference; single intervals would in about 10."""
    generator = np.random.default_rng(0)
    claims = 0
    for _ in range(40):
        values = generator.normal(size=5)
        sets = {str(k): [measured(10 + v, 10 + v + generator.normal(size=100))] for k, v in enumerate(values)}
        claims += any(line["real"] for line in ranking(sets, 100)["differences"])
    assert claims <= 6


def test_intervals_without_half_samples_hold_together_too() -> None:
    """A count, as of copies, has an exact interval of its own: with more sets it becomes wider as every other one."""
    def wide(sets: int) -> float:
        found = ranking({str(k): [measured(5.0 * k, np.empty(0), name="copies", better="lower")] for k in range(sets)},
                        30)
        gap = found["differences"][0]
        assert gap["low"] < gap["difference"] < gap["high"]
        return float(gap["high"] - gap["low"])

    assert wide(2) == pytest.approx(2 * 2**0.5)  # 95 % of one pair: of two values with intervals of 1 to either side
    assert wide(3) / wide(2) == pytest.approx(2.3940 / 1.9600, rel=1e-3)  # normal quantiles of 0.025 / 3 and 0.025


def test_one_set_alone_and_in_a_ranking_has_the_same_numbers(make_prepared) -> None:  # type: ignore[no-untyped-def]  # the fixture's type is long
    prepared = Prepared(make_prepared(150))
    first, second = discs(60, 3), discs(60, 4, noise=0.3)
    none = np.full(60, -1)
    ranked = rank_prepared(prepared, {"good": Synthetic(images=first, labels=none),
                                      "noisy": Synthetic(images=second, labels=none)}, settings=FAST)
    for name, images in (("good", first), ("noisy", second)):  # neither depends on the set before it
        alone = evaluate_prepared(prepared, images, settings=FAST)
        assert ranked["sets"][name]["measurements"] == alone["measurements"]
    assert ranked["ranking"][0]["set"] == "good" and ranked["ordered_by"] == "frechet_distance"


def test_folders_are_ranked_and_written(tmp_path: Path, make_prepared) -> None:  # type: ignore[no-untyped-def]  # as above
    make_prepared(150)
    folders = [write_pictures(tmp_path / name / "synthetic", discs(50, 3, noise))
               for name, noise in (("worse", 0.4), ("better", 0.02))]
    (tmp_path / "worse" / "spec.json").write_text("{}")  # a run folder stands for its synthetic images
    results = evaluate(tmp_path, tmp_path / "worse", folders[1], settings=FAST, out=tmp_path / "out")
    assert [line["set"] for line in results["ranking"]] == ["synthetic", "worse"]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["ranking"] == results["ranking"]
    assert sorted(path.stem for path in (tmp_path / "out" / "pictures").iterdir()) == ["real", "set_0", "set_1"]
    page = Page(report(tmp_path / "out").read_text(encoding="utf-8"))
    assert page.outside == [] and page.silent == [] and page.headings.count("h1") == 1
    assert "synthetic is closest to real images by the Fréchet distance, and more than chance" in page.text
    assert all(number["title"] in page.text for number in results["numbers"])
    blind = dataclasses.replace(FAST, real_pictures=False)
    evaluate(tmp_path, tmp_path / "worse", folders[1], settings=blind, out=tmp_path / "out")
    assert not (tmp_path / "out" / "pictures" / "real.npy").exists()
    assert "shows real images" not in report(tmp_path / "out").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="twice"):
        evaluate(tmp_path, folders[0], folders[0])
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "spec.json").write_text("{}")
    (tmp_path / "bare" / "settings.yaml").write_text("task: {kind: translate}\nmodel: {}\naugment: {}\ntrain: {}\n")
    with pytest.raises(FolderError, match=r"makes images from images.*radsynth apply"):
        evaluate(tmp_path, tmp_path / "bare")
    (tmp_path / "bare" / "settings.yaml").write_text("task: {kind: synthesis}\nmodel: {}\naugment: {}\ntrain: {}\n")
    with pytest.raises(FolderError, match="without synthetic images"):
        evaluate(tmp_path, tmp_path / "bare")


def _ranked_copies(folder: Path) -> None:
    """A ranking of two sets of one document, of which the first holds copies and a name that is no HTML."""
    names = ("<b>first</b>", "second")
    parts = np.arange(20.0)
    sets = {name: [measured(1.0 + k, parts, name="frechet_distance")] for k, name in enumerate(names)}
    documents = {name: copy.deepcopy(RESULTS) for name in names}
    documents[names[0]]["measurements"][4]["value"] = 0.02
    documents[names[1]]["refused"] = [{"name": "x", "title": "X", "reason": "Too few."}]
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"version": 1, **ranking(sets, 20), "sets": documents}))


def test_the_page_on_a_ranking_warns_of_copies_and_names_what_is_unsure(tmp_path: Path) -> None:
    _ranked_copies(tmp_path / "out")
    text = report(tmp_path / "out").read_text(encoding="utf-8")
    assert "<b>first" not in text and "&lt;b&gt;first" in text
    page = Page(text)
    assert "2.0 % of the images may be copies of training images" in page.text
    assert "X: Too few. (second)" in page.text and "Only 3 held-out patients: mind." in page.text
    first = ranking({"a": [measured(1.0, np.arange(20.0))], "b": [measured(1.1, np.arange(20.0)[::-1])]}, 20)
    assert lead(first, {"kernel_distance": "K"}) == (
        "a is closest to real images by the K, but not beyond chance: b may be as good.")


def test_a_ranking_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"ranking": [], "sets": {}}))
    with pytest.raises(FolderError, match="Evaluate the sets again"):
        report(tmp_path)

"""Every number has its place in the scorecard, its explanation, and a form for readers."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from radsynth.metrics import modules
from radsynth.metrics._paired import NUMBERS as PAIR_NUMBERS
from radsynth.verbs._agreement import NUMBER as AGREEMENT
from radsynth.verbs._auditing import attacks as _audit_attacks
from radsynth.verbs._pairs import label_numbers, registration
from radsynth.verbs._report.scorecard import NUMBERS, QUESTIONS, scorecard
from radsynth.verbs._report.words import extent, figure, interval, sides
from radsynth.verbs._run_files import RunFiles
from radsynth.verbs.report import report
from tests.report.examples import RESULTS, SPEC, add, page


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


@pytest.mark.parametrize(("value", "unit", "text"), [
    (0.5, "share", "50 %"), (0.0123, "share", "1.2 %"), (0.0, "share", "0 %"), (1234.5, "", "1,234"),
    (19.96, "", "20.0"), (-1.67, "", "\u22121.67"), (0.0, "HU", "0 HU"), (5.541, "HU", "5.54 HU"),
    (0.00012, "", "0.00012"), (0.0002, "share", "0.02 %"), (0.0996, "share", "10 %"), (0.9996, "share", "99.9 %"),
    (0.997, "share", "99.7 %"), (0.99, "share", "99 %"), (1.0, "share", "100 %"),
    (-0.0003, "share", "\u22120.03 %"), (-0.123, "share", "\u221212 %"),
])  # fmt: skip
def test_figures_are_written_for_readers(value: float, unit: str, text: str) -> None:
    assert figure(value, unit).replace("\u00a0", " ") == text


def test_sizes_are_written_out() -> None:
    assert extent((10240, 8192)) == "10240\u00a0\u00d7\u00a08192\u00a0pixels"
    assert sides((2.5, 0.70312)) == "2.5\u00a0\u00d7\u00a00.7031"


def test_intervals_name_the_unit_once() -> None:
    assert interval(0.1, 0.25, "share").replace("\u00a0", " ") == "10 to 25 %"
    assert interval(1, 2, "HU").replace("\u00a0", " ") == "1.00 to 2.00 HU"


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


def test_names_written_from_the_right_keep_their_numbers_beside_them(run: Path) -> None:
    """Of two Arabic names in a row the count of the first stood beside the second, and their order was turned."""
    classes = {"\u0633\u0644\u064a\u0645": 20, "\u0648\u0631\u0645": 30, "left": 40}
    add(run, inspection={"n_images": 90, "n_patients": 90, "modality": "MR", "median_size": [16, 16],
                         "labels": classes},
        spec=SPEC | {"spec": SPEC["spec"] | {"labels": [*classes]}})
    first, second = (f"\u2068{name}\u2069" for name in [*classes][:2])
    text = page(run).text
    assert f"{first}: 20; {second}: 30; left: 40" in text and f"{first}, {second}, left" in text


def test_a_scorecard_without_numbers_does_not_explain_them(run: Path) -> None:
    assert "dot and line" in page(run).text and "half-samples of the patients" in page(run).text
    add(run, results=RESULTS | {"measurements": []})
    text = page(run).text
    assert "dot and line" not in text and "half-samples of the patients" not in text
    assert "No number could be measured" in text

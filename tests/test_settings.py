"""Settings: merging, one validation, every problem at once. The sections here are small ones made for the test."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from radsynth import settings as house
from radsynth._describe import describe
from radsynth.errors import SettingsError
from radsynth.settings import Section, kinds, meaning, read_yaml, resolve, settings_class
from radsynth.shorthand import read_budget, read_preset
from radsynth.verbs._given import given

RED = '''
"""Red: the first fake kind.

More about it.
"""
from __future__ import annotations
from typing import Literal
from pydantic import Field
from radsynth.settings import settings

@settings
class Settings:
    kind: Literal["red"] = "red"
    """Which kind."""
    width: int = Field(64, ge=8, le=512)
    """Channels of the first layer."""
    rate: float = Field(1e-3, gt=0)
    """Step size."""
    size: tuple[int, int] = (64, 64)
    """Rows and columns."""
    names: tuple[str, ...] = ()
    """Any names."""
    compile: bool = False
    """Whether to compile."""
    limit: int | None = None
    """A limit, or none."""
    note: str = "x"
    """Any text."""
'''
BLUE = RED.replace("red", "blue").replace("compile", "unroll")
PLAIN = '''
"""A section without kinds."""
from pathlib import Path
from typing import Literal
from radsynth.settings import settings

@settings
class Settings:
    path: Path
    """The folder to read."""
    mode: Literal["fast", "exact"] = "fast"
    """How to do it."""
'''


@pytest.fixture(autouse=True)
def fake_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fakehouse" / "colours"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "_shared.py").touch()
    (package / "broken.py").write_text('"""Broken."""\nraise RuntimeError("imported")\n')
    (package / "red.py").write_text(RED)
    (package / "blue.py").write_text(BLUE)
    (package.parent / "plain.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("fakehouse")]:
        monkeypatch.delitem(sys.modules, name)
    sections = {"model": Section("fakehouse.colours", "red"), "plain": Section("fakehouse.plain")}
    monkeypatch.setattr(house, "SECTIONS", sections)


def problems(*documents: dict[str, object], **options: object) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve(*documents, **options)  # type: ignore[arg-type]  # forwarded as given
    return str(caught.value)


def test_defaults_come_from_the_classes() -> None:
    resolved = resolve()
    model = resolved.section("model", settings_class("model"))
    assert (model.kind, model.width, model.size, resolved.seed) == ("red", 64, (64, 64), 0)


def test_later_wins_and_overrides_win_last(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 3\nmodel:\n  width: 32\n  rate: 1e-4\n")
    resolved = resolve({"seed": 1, "model": {"width": 16, "names": ["a"]}}, path=file, overrides=["model.rate=2e-4"])
    model = resolved.section("model")
    assert (model.width, model.rate, model.names, resolved.seed) == (32, 2e-4, ("a",), 3)


def test_a_new_kind_replaces_its_section() -> None:
    resolved = resolve({"model": {"compile": True, "width": 16}}, overrides=["model.kind=blue"])
    assert resolved.kind("model") == "blue"
    assert resolved.section("model").width == 64
    same = resolve({"model": {"width": 16}}, overrides=["model.kind=red"])
    assert same.section("model").width == 16


def test_the_kind_that_goes_with_a_task_is_no_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = tmp_path / "fakehouse" / "tasks"
    tasks.mkdir()
    (tasks / "__init__.py").touch()
    (tasks / "paint.py").write_text(RED.replace("red", "paint") + 'MODEL = "blue"\n')
    (tasks / "plain.py").write_text(RED.replace("red", "plain"))
    monkeypatch.setitem(house.SECTIONS, "task", Section("fakehouse.tasks", "plain"))
    monkeypatch.setitem(house.SECTIONS, "model", Section("fakehouse.colours", "red", follows="task"))
    mine = {"model": {"width": 16}}
    for layers, kind in ((({"task": {"kind": "paint"}}, mine), ""), (({"task": {"kind": "paint"}}, mine), "blue"),
                         ((mine, {"task": {"kind": "paint"}}), "blue")):
        found = resolve(*layers, overrides=[f"model.kind={kind}"] if kind else [])
        assert (found.kind("model"), found.section("model").width) == ("blue", 16)
    replaced = resolve({"task": {"kind": "paint"}}, mine, overrides=["model.kind=red"])
    assert (replaced.kind("model"), replaced.section("model").width) == ("red", 64)


def test_the_documents_given_are_not_changed() -> None:
    document = {"model": {"size": [8, 8]}}
    resolve(document, overrides=["model.width=16"])
    assert document == {"model": {"size": [8, 8]}}


def test_all_problems_at_once_with_path_given_allowed_and_nearest() -> None:
    text = problems(
        {"modle": {}, "model": {"widht": 3, "rate": -1}, "seed": "x"},
        overrides=["plain.mode=slow", "model.size=[8]", "a"],
    )
    assert "modle: no such section (did you mean model?)" in text
    assert "model.widht: no such setting (did you mean model.width?); model (red) has kind, width" in text
    assert "model.rate: given -1, allowed: a number, above 0" in text
    assert 'seed: given "x", allowed: a whole number' in text
    assert "plain.path: must be given: The folder to read." in text
    assert 'plain.mode: given "slow", allowed: fast, exact' in text
    assert "model.size[1]" in text
    assert "'a': not a setting; write section.key=value" in text
    assert text.startswith("8 problems")


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("model.width=yes", "a whole number, at least 8, at most 512"),
        ("model.width=true", "a whole number"),
        ("model.width='64'", "a whole number"),
        ("model.width=64.5", "a whole number"),
        ("model.width=4", "at least 8"),
        ("model.compile=yes", "true or false"),
        ("model.compile=1", "true or false"),
        ("model.rate=fast", "a number, above 0"),
        ("model.names=[1]", "a list of (text)"),
        ("model.names=one", "a list of (text)"),
        ("model.size=32,32", "written in brackets, as in 'model.size=[32, 32]'"),
        ("model.size=32x32", "written in brackets, as in 'model.size=[32, 32]'"),
        ("model.size=9", "written in brackets, as in 'model.size=[9, 9]'"),
        ("plain.path=", 'plain.path: given "", which is no path'),
        ("model.size=[8, 8, 8]", "a list: [a whole number; a whole number]"),
        ("model.limit=x", "a whole number or null"),
        ("model.kind=rde", "did you mean red?"),
        ("model.kind=RED", "did you mean red?"),
        ("model.lr=1", "did you mean model.rate?"),
        ("model=blue", "write model.kind=blue"),
        ("model={1: 2}", 'model: given {"1": 2}, allowed: names with values'),
        ("model.width=[1,", "is not valid YAML"),
        ("model.width=", 'given "", allowed: a whole number'),
        ("plain.mode=exakt", 'given "exakt", allowed: fast, exact (did you mean exact?)'),
        ("model.rate=.inf", "model.rate: given Infinity, allowed: a number"),
        ("model.limit=2147483648", "model.limit: given 2147483648, allowed: a whole number, at most 2147483647"),
    ],
)
def test_strict_values(override: str, allowed: str) -> None:
    assert allowed in problems(overrides=[override])


def test_a_setting_in_a_file_that_is_named_as_on_the_command_line_is_told_where_it_stands() -> None:
    assert "model.width: no such section (in a file, 'width: 8' stands below 'model:')" in problems({"model.width": 8})


def test_an_empty_text_is_no_example_of_a_list() -> None:
    assert "brackets" not in problems(overrides=["model.size="])


@pytest.mark.parametrize(
    ("override", "value"),
    [("model.rate=1e-5", 1e-5), ("model.rate=2", 2.0), ("model.limit=7", 7), ("model.limit=null", None),
     ("model.names=[no, '1e-3']", ("no", "1e-3")), ("model.size=[16, 24]", (16, 24)), ("model.width=010", 10),
     ("model.note=", ""), ("model.note=''", "")],
)  # fmt: skip
def test_accepted_values_and_round_trip(override: str, value: object, tmp_path: Path) -> None:
    resolved = resolve(overrides=[override, f"plain.path={tmp_path}", "seed=9"])
    name = override.partition("=")[0].removeprefix("model.")
    assert getattr(resolved.section("model"), name) == value
    file = tmp_path / "again.yaml"
    file.write_text(resolved.to_yaml())
    again = resolve(path=file)
    assert again.to_yaml() == resolved.to_yaml()
    assert again.section("model") == resolved.section("model")
    assert again.section("plain").path == tmp_path
    assert again.seed == 9


@pytest.mark.parametrize(("override", "meant"), [
    ("train.lr=0.001", "train.rate"), ("train.learning_rate=0.001", "train.rate"), ("train.epochs=5", "train.images"),
    ("train.batch_size=8", "train.batch"), ("train.ema=0.99", "train.average"), ("model.kind=DCGAN", "dcgan"),
    ("model.kind=stylegan2", "style"), ("task.loss=lsgan", "least_squares"), ("task.loss=WGAN-GP", "wasserstein"),
    ("task.loss=BCE", "non_saturating"), ("task.penalty=gp", "wgan_gp"), ("task.penalty=WGAN-GP", "wgan_gp"),
    ("train.precision=fp32", "32-true"), ("train.gpus=2", "train.processes"),
])
def test_names_of_papers_and_other_programs_are_understood(
    override: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert f"did you mean {meant}?" in problems(overrides=[override])


@pytest.mark.parametrize("overrides", [
    ("model.kind=r3gan", "model.blocks=1000000"), ("model.kind=sngan", "model.residual=1000000"),
    ("model.kind=sngan", "model.discriminator_convolutions=1000000"),
    ("model.kind=style", "model.mapping_layers=1000000"), ("model.kind=unet", "model.blocks=1000000"),
    ("task.kind=register", "task.passes=1000000"), ("seed=0", "train.batch=1000000"),
])
def test_what_has_no_end_is_refused_and_not_built(overrides: tuple[str, str],
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "given 1000000, allowed: a whole number, " in problems(overrides=overrides)


@pytest.mark.parametrize(("file", "override", "section", "setting"), [
    ({"model": {"width": 16}}, "model.kind=dcgan", "model", "width"),
    ({"task": {"adversarial": 0.5}, "model": {"width": 16}}, "task.kind=segment", "task", "adversarial"),
])
def test_a_file_that_names_no_kind_goes_with_the_kind_that_is_asked_for(
    file: dict[str, Any], override: str, section: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    (tmp_path / "mine.yaml").write_text(json.dumps(file))
    found = given((section,), [override], tmp_path / "mine.yaml", with_recipe=True)
    assert getattr(found.section(section), setting) == file[section][setting]


@pytest.mark.parametrize(("file", "words"), [("{}", ["task.kind=synthesis"]), ("task: {kind: autoencode}", [])])
def test_what_learns_without_privacy_is_refused_where_that_is_asked_for(
    file: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    (tmp_path / "mine.yaml").write_text(file)
    with pytest.raises(SettingsError, match=r"--privacy dp with task.kind=(synthesis|autoencode): task.kind=private"):
        given((), words, tmp_path / "mine.yaml", privacy="dp")
    assert given((), ["task.clip=2"], privacy="dp").kind("task") == "private"


def test_how_a_device_is_chosen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "train.device: no such setting (a GPU is used where there is one" in problems(overrides=["train.device=cpu"])


def test_only_the_sections_asked_for_are_loaded() -> None:
    resolved = resolve({"model": {"kind": "broken", "width": "wrong"}, "plain": {"path": "x"}}, sections=["plain"])
    assert resolved.section("plain").path == Path("x")
    assert "fakehouse.colours.broken" not in sys.modules
    assert resolved.document()["model"] == {"kind": "broken", "width": "wrong"}
    assert "did you mean red" in problems({"model": {"kind": "re"}}, sections=[])
    with pytest.raises(RuntimeError, match="imported"):
        resolved.section("model")


def test_kinds_and_meanings_come_from_files_without_importing() -> None:
    assert kinds("fakehouse.colours") == ("blue", "broken", "red")
    assert meaning("fakehouse.colours", "red") == "Red: the first fake kind."
    assert meaning("fakehouse.colours", "broken") == "Broken."
    assert "fakehouse.colours.red" not in sys.modules


def test_a_misspelt_name_is_told_without_importing_and_with_others_wherever_these_are() -> None:
    alone = problems({"model": {"kind": "red", "widht": 8}})
    assert "fakehouse.colours.red" not in sys.modules
    both = problems({"model": {"kind": "red", "widht": 8, "rate": "x"}})
    told = [line for line in both.splitlines() if "widht" in line]
    assert told and told[0] in alone and 'model.rate: given "x"' in both


def test_describe() -> None:
    described = {setting.name: setting for setting in describe(settings_class("model", "red"))}
    assert described["width"] == (
        "width",
        "Channels of the first layer.",
        "64",
        "a whole number, at least 8, at most 512",
    )
    assert described["size"].default == "[64, 64]"
    assert described["limit"].default == "null"
    plain = {setting.name: setting for setting in describe(settings_class("plain"))}
    assert plain["path"] == ("path", "The folder to read.", None, "a path")
    assert plain["mode"].allowed == "fast, exact"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"model: [1\n", "is not valid YAML"),
        (b"- model\n", "must hold sections"),
        (b"just text", "must hold sections"),
        (b"model:\n  width: 8\n  width: 9\n", "'width' is given twice"),
        (b"model: {}\nmodel: {}\n", "'model' is given twice"),
        (b"model:\n\twidth: 8\n", "line 2, column 1: while scanning for the next token found character '\\t'"),
        (b"model:\n  ? [width]\n  : 8\n", "line 2, column 5: while constructing a mapping found unhashable key"),
        (b"model:\n  width: !!bool x\n", "is not valid YAML"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"a: !!python/object/apply:os.system ['echo']\n", "is not valid YAML"),
        (b"1: 2\n", "must hold sections"),
    ],
)
def test_bad_files_are_named(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"mine\.yaml") as caught:
        read_yaml(file)
    assert says in str(caught.value)


def test_missing_file_folder_and_preset(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            resolve(path=path)
    with pytest.raises(SettingsError, match="There is no preset 'nonesuch'"):
        read_preset("nonesuch")
    with pytest.raises(SettingsError):
        read_preset("../settings")


def test_empty_file_and_empty_section_are_defaults(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")
    assert resolve(path=file).seed == 0
    file.write_text("model:\n")
    assert resolve(path=file).section("model").width == 64
    assert resolve(overrides=["model=null", "model.width=128"]).section("model").width == 128


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", {"seconds": 30, "images": 0}),
        ("5min", {"seconds": 300, "images": 0}),
        ("1.5h", {"seconds": 5400, "images": 0}),
        ("2h30min", {"seconds": 9000, "images": 0}),
        ("1d 12h", {"seconds": 129600, "images": 0}),
        ("100000img", {"images": 100000, "seconds": 0}),
        ("100 kimg", {"images": 100000, "seconds": 0}),
        ("1.5kimg", {"images": 1500, "seconds": 0}),
        ("1e4img", {"images": 10000, "seconds": 0}),
    ],
)
def test_budgets(text: str, expected: dict[str, float]) -> None:
    assert read_budget(text) == {"train": expected}


@pytest.mark.parametrize("text", ["", "5", "min", "-5min", "0s", "5 days", "2h30", "2h 100img", "1kimg500img",
                                  "nan s", "0.2img", f"{10**400}img", "1e4"])
def test_budgets_that_mean_nothing(text: str) -> None:
    with pytest.raises(SettingsError, match="30s, 5min, 2h30min, 1d"):
        read_budget(text)


@pytest.mark.parametrize(("text", "meant"), [
    ("5", "5min"), ("5 minutes", "5min"), ("1,5h", "1.5h"), ("2hrs", "2h"), ("5 days", "5d"), ("100 images", "100img"),
    ("100.000img", "100000img"), ("1,000,000 img", "1000000img"),
])
def test_what_a_budget_means_is_asked(text: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"Did you mean {re.escape(meant)}\\?"):
        read_budget(text)

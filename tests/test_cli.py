"""The command line: quick, thin, and clear when something is wrong. The verbs here are stand-ins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import radsynth
from radsynth import cli
from radsynth._summaries import in_one_minute, numbers
from radsynth.errors import DataError, FolderError, Interrupted, SettingsError, TrainingError
from radsynth.settings import resolve
from radsynth.stopping import SIGNALS


@dataclass(frozen=True)
class Result:
    run: Path
    synthetic: Path
    report: Path
    results: dict[str, Any]


NUMBER = {"name": "frechet_distance", "title": "Fréchet distance", "value": 41.5,
          "low": 40.0, "high": 43.0, "n": 500, "floor": None}
RESULTS = {"measurements": [NUMBER], "size": (64, 48), "rate": float("nan")}


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["radsynth", *arguments])
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    finally:
        for number, former in before.items():
            signal.signal(number, former)
    return int(stopped.value.code or 0)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., Any]], None]:
    """Put a stand-in in a verb's place."""

    def replace(name: str, function: Callable[..., Any]) -> None:
        module = ModuleType(f"radsynth.verbs.{name}")
        setattr(module, name, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return replace


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = [sys.executable, "-m", "radsynth", "--help"]
    times = []
    for _ in range(3):
        before = os.times()
        shown = subprocess.run(program, capture_output=True, text=True, check=True)
        after = os.times()
        # Processor time, not wall time: the same on an idle machine, and other work beside the tests does not count.
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert all(f"  {name} " in shown.stdout for name in radsynth.VERBS)
    assert min(times) < 0.3, times
    cut = [line for line in shown.stdout.splitlines() if line.startswith("  ") and line.endswith("...")]
    assert not cut, "no command is told by half"
    code = "import radsynth.cli, sys; print({'torch', 'numpy', 'pydantic', 'rich', 'yaml'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"


def test_a_mistaken_setting_is_told_before_the_networks_are_loaded(tmp_path: Path) -> None:
    for mistake in ("trian.batch=3", "train.bacth=3", "model.widht=3", "task.loos=hinge", "generate.cuont=3"):
        code = (f"import sys; sys.argv = ['radsynth', 'run', {mistake!r}]\nfrom radsynth.cli import main\n"
                "try:\n    main()\nexcept SystemExit as ended:\n    print(ended.code, 'torch' in sys.modules)")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.stdout.split() == ["2", "False"] and "did you mean" in done.stderr, mistake


def test_every_verb_is_a_function_whatever_was_imported_before() -> None:
    names = "[name for name in radsynth.__all__[2:] if not callable(getattr(radsynth, name))]"
    code = f"import radsynth.verbs.run, radsynth; print({names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", radsynth.VERBS)
def test_every_verb_has_a_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, name, "--help") == 0
    assert f"radsynth {name}" in capsys.readouterr().out


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"radsynth {radsynth.__version__}\n"


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="nonesuch"):
        radsynth.nonesuch  # noqa: B018 - the access is the test


@pytest.mark.parametrize(("words", "told"), [
    ("generate run out generate.truncation=0.5", "write --truncation 0.5"),
    ("generate run out generate.copy_filter=true", "write --copy-filter."),
    ("generate run out --generate.format=png", "write --format png"),
    ("generate run out count=5", "write --count 5"),
    ("export run out train.batch=5", "'export' takes no settings. 'radsynth export -h' lists its options"),
    ("run --train.batch=5", "without dashes: train.batch=5"),
    ("run train.batch = 5", "Write a setting without blanks"),
    ("run scans --budget 5 minutes", "Did you mean 5min?"),
])
def test_settings_in_the_wrong_place_are_told_how_to_be_written(
    words: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *words.split()) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [("run", "out", "--at", "seed=3"), ("count=5", "out")])
def test_what_only_looks_like_a_setting_of_generate_is_left_alone(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, verb: Callable[..., None], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "count=5").mkdir()
    calls: list[Any] = []
    verb("generate", lambda run, out, **options: calls.append((run, options["at"])))
    assert run_main(monkeypatch, "generate", *words) == 0
    assert calls == [(Path(words[0]), {"seed": 3.0} if "--at" in words else {})]


def test_run_passes_everything_on(
    monkeypatch: pytest.MonkeyPatch, verb: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calls: list[Any] = []

    def run(data: Path | None, out: Path | None, **options: Any) -> Result:
        calls.append((data, out, options))
        (tmp_path / "report.json").write_text(json.dumps({"bottom_line": "Look at them first.", "verdicts": [
            {"question": "Do they look like real images?", "answer": "Partly", "text": "Some do.", "limit": "",
             "sign": "note"}]}))
        print("progress of a careless verb", file=sys.stderr)
        return Result(tmp_path, tmp_path / "synthetic", tmp_path / "report.html", RESULTS)

    verb("run", run)
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "scans", "--out", "here", "model.kind=mlp", "--budget", "5min", "--seed", "7", "--json"]
    assert run_main(monkeypatch, *arguments) == 0
    (data, out, options), shown = calls[0], capsys.readouterr()
    assert (data, out) == (Path("scans"), Path("here"))
    assert options["overrides"] == ["model.kind=mlp"]
    assert (options["budget"], options["seed"], options["preset"], options["settings_file"]) == ("5min", 7, None, None)
    answer = json.loads(shown.out)
    assert answer["report"] == str(tmp_path / "report.html")
    assert answer["results"] == {"measurements": [NUMBER], "size": [64, 48], "rate": None}
    assert run_main(monkeypatch, "run", "model.kind=mlp") == 0
    assert calls[1][:2] == (None, None)
    shown = capsys.readouterr()
    assert "Fréchet distance" in shown.out and "41.5" in shown.out and "report.html" in shown.out
    assert "Do they look like real images?" in shown.out and "Partly" in shown.out and "Look at them" in shown.out
    assert "mind" not in shown.out and "could not be used" not in shown.out, "what is empty is not printed"
    line = {"method": "this run", "value": 29.61, "low": 29.2, "high": 30.0}
    RESULTS["pairs"] = {"numbers": [{"title": "PSNR", "unit": "dB", "methods": [line, {**line, "method": "Lanczos"}]}]}
    assert run_main(monkeypatch, "run") == 0
    shown = capsys.readouterr()
    assert shown.out.count("29.6 (29.2 to 30)") == 2 and "Lanczos" in shown.out and shown.out.count("PSNR") == 1
    del RESULTS["pairs"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rejected.csv").write_text("path,reason,skipped\na.png,it is empty,no\nb.txt,a text,yes\n")
    assert run_main(monkeypatch, "run") == 0
    assert "1 file could not be used" in capsys.readouterr().out
    (tmp_path / "data" / "manifest.json").write_text(json.dumps({"spec": {"format": "dicom"}}))
    assert run_main(monkeypatch, "run") == 0
    assert "1 file or series could not be used" in capsys.readouterr().out, "a line may stand for many files"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("no such thing"), 2),
        (DataError("no such thing"), 2),
        (FolderError("no such thing"), 3),
        (TrainingError("no such thing"), 4),
        (Interrupted("no such thing"), 130),
        (OSError(28, "no such thing", "somewhere"), 3),
    ],
)
def test_errors_are_one_text_and_a_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, verb: Callable[..., None], capsys: Any
) -> None:
    def report(run: Path) -> None:
        raise error

    verb("report", report)
    monkeypatch.delenv("RADSYNTH_DEBUG", raising=False)
    assert run_main(monkeypatch, "report", "somewhere") == code
    out, text = capsys.readouterr()
    assert out == ""
    assert "no such thing" in text
    assert len(text.splitlines()) == 1
    monkeypatch.setenv("RADSYNTH_DEBUG", "1")
    assert run_main(monkeypatch, "report", "somewhere") == code
    assert "Traceback" in capsys.readouterr().err


def test_memory_that_runs_out_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.delenv("RADSYNTH_DEBUG", raising=False)
    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError()):
        def report(run: Path, error: Exception = error) -> None:
            raise error

        verb("report", report)
        assert run_main(monkeypatch, "report", "somewhere") == 4
        assert "Memory ran out." in capsys.readouterr().err


def test_an_unexpected_error_names_the_file_with_the_details(
    monkeypatch: pytest.MonkeyPatch, verb: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def report(run: Path) -> None:
        raise KeyError("wall\nfloor")

    verb("report", report)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("RADSYNTH_DEBUG", raising=False)
    assert run_main(monkeypatch, "report", "somewhere") == 1
    text = capsys.readouterr().err
    (details,) = tmp_path.iterdir()
    assert len(text.splitlines()) == 1
    assert "unexpected KeyError" in text and str(details) in text
    assert "Traceback" in details.read_text()


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                       verb: Callable[..., None]) -> None:
    def report(run: Path) -> None:
        raise KeyboardInterrupt

    verb("report", report)
    assert run_main(monkeypatch, "report", "somewhere") == 130
    assert capsys.readouterr().err == "radsynth: Stopped.\n", "an end without a word looks like a fault"
    verb("run", lambda *_, **__: report(Path()))
    assert run_main(monkeypatch, "run") == 130
    verb("report", lambda run: signal.raise_signal(signal.SIGTERM))
    assert run_main(monkeypatch, "report", "somewhere") == 143
    assert "Stopped. What is finished is kept: the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonesuch"], "nonesuch"),
        (["inspect"], "DATA"),
        (["generate", "a", "b", "--count", "many"], "--count"),
        (["run", "a", "b"], "takes [DATA]"),
        (["train", "a", "b", "--budget", "long"], "30s, 5min, 2h30min, 1d"),
        (["train", "a", "b", "--preset", "nonesuch"], "There is no preset"),
        (["train", "a", "b", "--settings", "nonesuch.yaml"], "cannot be read"),
        (["train", "a", "b", "tran.batch=3"], "did you mean train?"),
        (["train", "a", "b", "train.bach=3"], "did you mean train.batch?"),
        (["train", "a", "b", "budget=5min"], "did you mean --budget 5min?"),
        (["run", ""], "A word after the command is empty"),
        (["prepare", "brain", ""], "A word after the command is empty"),
        (["show", "nonesuch"], "show settings"),
        (["show", "settings", "nonesuch"], "There is no section or kind"),
        (["show", "kinds", "nonesuch"], "datasets"),
    ],
)
def test_mistakes_are_exit_code_2(
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *arguments) == 2
    out, text = capsys.readouterr()
    assert out == ""
    assert says in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["inspect", "brain"], ["run", "brain"], ["evaluate", "a", "b"]])
def test_an_output_folder_that_cannot_be_is_told_first(words: list[str], monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *words, "--out", "file/out") == 3
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "file/out cannot be written" in told and "file is a file" in told


def test_show_kinds_and_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, "show", "kinds", "models", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"folder": "models", "kind": "mlp"}.items() <= next(f for f in found if f["kind"] == "mlp").items()
    assert run_main(monkeypatch, "show", "kinds") == 0 and " spectrum " in capsys.readouterr().out  # the last of all
    assert run_main(monkeypatch, "show", "settings", "train", "--json") == 0
    (section,) = json.loads(capsys.readouterr().out)
    batch = next(setting for setting in section["settings"] if setting["name"] == "batch")
    assert batch["meaning"] and batch["default"] and "whole number" in batch["allowed"]
    assert run_main(monkeypatch, "show", "settings", "train") == 0
    assert "batch" in capsys.readouterr().out
    assert run_main(monkeypatch, "show", "presets") == 0 and "30 minutes of training" in capsys.readouterr().out
    assert run_main(monkeypatch, "show", "presets", "best", "--json") == 0
    assert json.loads(capsys.readouterr().out)["train"]["seconds"] == 1800


def test_where_it_cannot_run_it_says_where_it_can() -> None:
    done = subprocess.run([sys.executable, "-c", "import sys; sys.platform = 'win32'; import radsynth"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("ImportError: radsynth runs on")
    assert "WSL 2" in done.stderr


def test_what_was_refused_is_told_once_for_each_reason() -> None:
    few, fewer = ([{"name": name, "title": name, "reason": reason} for name in ("precision", "recall")]
                  for reason in ("There are 9.", "There are 3."))
    classes = {label: {"measurements": [], "refused": fewer} for label in ("lesion", "cyst")}
    found = numbers({"measurements": [], "refused": few, "classes": classes})
    assert found["not_measured"] == [{"title": "precision; recall", "reason": "There are 9."},
                                     {"title": "Numbers of class lesion; Numbers of class cyst",
                                      "reason": "There are 3."}]


def test_apply_tells_no_target_where_there_is_no_choice_and_says_why_nothing_is_flagged(
    verb: Callable[[str, Callable[..., Any]], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from radsynth.verbs.apply import Applied

    made = Applied(folder=Path("out"), count=2, flagged=None)
    for target in (None, "ct"):
        verb("apply", lambda *given, now=target, **more: replace(made, target=now))
        assert run_main(monkeypatch, "apply", "run", "in", "out") == 0
        told = capsys.readouterr().out
        assert ("target" in told, "ct" in told) == (target == "ct",) * 2
        assert "unknown: nothing says" in told and "-" not in told


def test_a_good_verdict_is_told_with_its_limit(tmp_path: Path) -> None:
    verdict = {"question": "Well?", "text": "It is.", "limit": "Of one patient."}
    signs = {"good": " Limit: Of one patient.", "note": " Limit: Of one patient.", "warning": "", "open": ""}
    (tmp_path / "report.json").write_text(json.dumps({"bottom_line": "", "verdicts": [
        {**verdict, "sign": sign, "answer": sign} for sign in signs]}))
    told = in_one_minute(tmp_path / "report.html")["in_one_minute"]
    assert {row["answer"]: row["found"] for row in told} == {sign: f"It is.{end}" for sign, end in signs.items()}


def test_paths_in_the_home_folder(verb: Callable[[str, Callable[..., Any]], None], monkeypatch: pytest.MonkeyPatch,
                                  tmp_path: Path) -> None:
    """Shells expand a ~ at the beginning of a word alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    asked: list[Any] = []

    def stand_in(data: Any, out: Any = None, **options: Any) -> Any:
        asked.append((data, out, options["overrides"]))
        raise DataError("asked")

    verb("run", stand_in)
    monkeypatch.chdir(tmp_path)
    Path("~scans").mkdir()
    run_main(monkeypatch, "run", "~scans", "--out=~/runs/a", "data.only=a~")
    assert asked == [(Path("~scans"), tmp_path / "runs" / "a", ["data.only=a~"])]
    given = tmp_path / "mine.yaml"
    given.write_text("data: {kind: folder, path: ~/scans, labels: ~/labels.csv, only: a~/}\ntrain: {start: ~/run}\n",
                     encoding="utf-8")
    found = resolve(path=given, overrides=["prepare.extra=~/more"])
    data = found.section("data")
    assert (data.path, data.labels, data.only) == (tmp_path / "scans", f"{tmp_path}/labels.csv", "a~/")
    assert found.given("train")["start"] == f"{tmp_path}/run" and found.section("prepare").extra == tmp_path / "more"

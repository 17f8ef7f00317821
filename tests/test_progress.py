"""Progress: plain lines where there is no terminal, a bar where there is one, and stdout is never touched."""

from __future__ import annotations

import io
import sys

import pytest

from radsynth import progress
from radsynth.progress import Progress, tell, track


class Clock:
    """Time that passes only when the test says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_track_yields_everything_and_a_quick_loop_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(1000), label="reading", unit="files")) == list(range(1000))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["reading: 1,000 files in 0 s"]
    assert list(track(["one"], label="reading", unit="files"))
    assert capsys.readouterr().err == "reading: 1 file in 0 s\n"


def test_nothing_to_do_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert not list(track([], label="reading", unit="files")) and capsys.readouterr().err == ""


def test_plain_lines_are_rare_and_tell_rate_and_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1000, "preparing", "images") as shown:
        for done in range(1, 1001):
            clock.now += 0.5  # 2 images a second, 500 s in all
            shown.update(done, "2 rejected")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "preparing: 100 of 1,000 (10%) images, 2/s, 7 min 30 s left, 2 rejected"
    assert lines[-1] == "preparing: 1,000 images in 8 min 20 s, 2 rejected"


def test_what_an_earlier_call_has_done_tells_nothing_of_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that went on at 60 % had 7 s left, which were 45 minutes."""
    with Progress(1000, "preparing", "images", begun=600) as shown:
        for done in range(601, 1001):
            clock.now += 0.5
            shown.update(done)
    assert capsys.readouterr().err.startswith("preparing: 620 of 1,000 (62%) images, 2/s, 3 min 10 s left\n")


def test_a_part_of_other_work_ends_without_a_line_unless_it_was_slow(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds in track((0.1, 20), label="applying"):
        for _ in track(range(4), label="  windows"):
            clock.now += seconds
    assert capsys.readouterr().err.splitlines() == [
        "  windows: 1 of 4 (25%), 0.05/s, 1 min 00 s left", "  windows: 2 of 4 (50%), 0.05/s, 40 s left",
        "  windows: 3 of 4 (75%), 0.05/s, 20 s left", "  windows: 4 in 1 min 20 s", "applying: 2 in 1 min 20 s"]


def test_slow_work_gives_a_sign_of_life_every_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1.0, "training") as shown:
        for second in range(1, 601):
            clock.now = second
            shown.update(second / 36000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[0] == "training: 0%, 9 h 59 min left"
    assert lines[-1] == "training: done in 10 min 00 s"


def test_unknown_total(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(None, "searching") as shown:
        for second in range(1, 25):
            clock.now = second
            shown.update(second * 100)
    assert capsys.readouterr().err.splitlines() == [
        "searching: 1,000, 100/s",
        "searching: 2,000, 100/s",
        "searching: 2,400 in 24 s",
    ]


def test_an_error_passes_through_without_a_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), Progress(10, "failing"):
        raise KeyError
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_one_bar_also_when_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in track(range(3), label="outer [x]"):
        assert sum(track(range(4), label="inner")) == 6
    assert Progress._display is None
    assert "outer [x]" in terminal.getvalue()
    assert "inner" in terminal.getvalue()


def test_a_line_of_its_own_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(1.0, "training"):
        tell("[bold] is no style here")
    assert "[bold] is no style here\n" in terminal.getvalue()

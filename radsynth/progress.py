"""Progress of long work on stderr: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import rich.progress

T = TypeVar("T")
_SECONDS, _SHARE, _PATIENCE = 10.0, 0.1, 60.0
"""A plain line comes after 10 s if a tenth more is done, after 60 s in any case."""


def track(iterable: Iterable[T], total: int | None = None, label: str = "", unit: str = "") -> Iterator[T]:
    """Yield the items and show how many of `total` (default: the length, if it has one) are done."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(total, label, unit) as progress:
        for done, item in enumerate(iterable, start=1):
            yield item
            progress.update(done)


def tell(text: str) -> None:
    """One line of its own, above the bar where there is one."""
    if Progress._display is None:
        print(text, file=sys.stderr, flush=True)
    else:
        Progress._display.console.print(text, markup=False, highlight=False)


class Progress:
    """Progress of a loop that counts for itself; use it in a `with` statement.

    Inside of another one it says nothing at its end unless it has said something before: it is a part of that one.
    total: what `done` reaches, None when unknown; 1.0 when `done` is a share, which is shown in per cent
    label: what is being done; unit: "images", "files", ...
    begun: what was done before, which tells nothing of the rate
    """

    _display: rich.progress.Progress | None = None  # one display a process: rich cannot show two at once
    _running = 0

    def __init__(self, total: float | None, label: str, unit: str = "", begun: float = 0.0) -> None:
        self.total, self.label, self.unit, self.begun = total, label, unit, begun
        self._done, self._note = 0.0, ""
        self._start = self._last = time.monotonic()
        self._last_done = 0.0
        self._owns = self._inner = False
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Progress:
        self._start = self._last = time.monotonic()
        self._inner = Progress._running > 0
        Progress._running += 1
        if sys.stderr.isatty():
            self._open_bar()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        Progress._running -= 1
        self.close(finished=kind is None)

    def update(self, done: float, note: str = "", total: float | None = None) -> None:
        """Say that `done` in all are done; `note` is shown behind it; `total` corrects the total."""
        self._done, self._note = done, note
        self.total = self.total if total is None else total
        if self._task is not None and Progress._display is not None:
            Progress._display.update(
                self._task, completed=done, total=self.total, detail=f"{self._count()}, {self._detail()}"
            )
        elif self._is_due():
            self._print_line()

    def close(self, finished: bool = True) -> None:
        """Take the bar away or print the last line. Not needed after a `with` statement."""
        if self._task is not None and Progress._display is not None:
            if self._owns:
                Progress._display.stop()
                Progress._display = None
            else:
                Progress._display.remove_task(self._task)
            self._task = None
        elif finished and self.total != 0 and (self._last_done or not self._inner):
            uncounted = self._is_share() or not (self._done or self.total or self.unit)
            done = "done" if uncounted else f"{self._done:,.0f}{self._of_unit()}"
            tell(f"{self.label}: {done} in {_duration(time.monotonic() - self._start)}{self._suffix()}")

    def _is_due(self) -> bool:
        waited = time.monotonic() - self._last
        if waited < _SECONDS or (self.total and self._done >= self.total):  # the last line is close's
            return False
        return waited >= _PATIENCE or not self.total or (self._done - self._last_done) / self.total >= _SHARE

    def _print_line(self) -> None:
        tell(f"{self.label}: {self._count()}, {self._detail()}")
        self._last, self._last_done = time.monotonic(), self._done

    def _count(self) -> str:
        if self._is_share():
            return f"{self._done:.0%}"
        share = f" of {self.total:,.0f} ({self._done / self.total:.0%})" if self.total else ""
        return f"{self._done:,.0f}{share}{self._of_unit()}"

    def _detail(self) -> str:
        rate = (self._done - self.begun) / max(time.monotonic() - self._start, 1e-9)
        parts = [] if self._is_share() else [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"]
        if self.total and rate > 0:
            parts.append(f"{_duration(max(0.0, self.total - self._done) / rate)} left")
        return ", ".join(parts) + self._suffix()

    def _is_share(self) -> bool:
        return self.total == 1.0 and not self.unit

    def _suffix(self) -> str:
        return f", {self._note}" if self._note else ""

    def _of_unit(self) -> str:
        unit = self.unit.removesuffix("s") if self._done == 1 and self.total in (1, None) else self.unit
        return f" {unit}" if unit else ""

    def _open_bar(self) -> None:
        if Progress._display is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Display

            columns = (TextColumn("{task.description}", markup=False), BarColumn(),
                       TextColumn("{task.fields[detail]}", markup=False))
            Progress._display = Display(*columns, console=Console(stderr=True))
            Progress._display.start()
            self._owns = True
        self._task = Progress._display.add_task(self.label, total=self.total, detail="")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

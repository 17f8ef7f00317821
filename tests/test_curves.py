"""TensorBoard's curves on a disk that is full: one error that says what to do, and no traceback above it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from radsynth.errors import FolderError
from radsynth.run_folder import RunFolder
from radsynth.verbs._training.board import board
from radsynth.verbs.train import train
from tests.trained import options, stopped

Make = Callable[..., Path]


def test_curves_that_the_disk_refuses_are_said_and_hide_no_other_error(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.tensorboard.writer import SummaryWriter

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data = make_prepared()
    monkeypatch.setattr(SummaryWriter, "close", refuse)
    with stopped(2):  # Interrupted
        train(data, tmp_path / "run", settings=options())
    monkeypatch.setattr(SummaryWriter, "add_scalar", refuse)
    with pytest.raises(FolderError, match=r"tensorboard could not be written: No space left on device\. Free some"):
        train(data, tmp_path / "run", settings=options())


def test_a_disk_that_is_full_for_curves_alone_is_one_error_without_a_traceback(
    small_disk: tuple[Path, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For real: TensorBoard's thread finds it full when it flushes, here at once and not after two minutes."""
    from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

    def soon(self: _AsyncWriterThread, queue: Any, writer: Any, _: float) -> None:
        made(self, queue, writer, 0)

    def refuse() -> None:
        raise OSError(errno.ENOSPC, "another thread's")

    place, said, made = small_disk[0], list[threading.ExceptHookArgs](), _AsyncWriterThread.__init__
    monkeypatch.setattr(_AsyncWriterThread, "__init__", soon)
    monkeypatch.setattr(threading, "excepthook", said.append)
    with (pytest.raises(FolderError, match=r"tensorboard could not be written: .*Free some space"),
          board(RunFolder(place), 0) as draw, (place / "large").open("wb", buffering=0) as large):
        with suppress(OSError):
            while large.write(bytes(4096)):
                pass
        for number in range(1000):
            draw({"generator/loss": 1.0}, number)
            time.sleep(0.001)
    assert not said
    with board(RunFolder(place.parent), 0):
        other = threading.Thread(target=refuse)
        other.start()
        other.join()
    assert [str(error.exc_value) for error in said] == ["[Errno 28] another thread's"]
    assert threading.excepthook == said.append, "as it was before"


def test_tensorflow_is_not_loaded_for_them(make_prepared: Make, tmp_path: Path) -> None:
    """Where it is installed TensorBoard would, though nothing of it is used."""
    installed = tmp_path / "installed" / "tensorflow"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("raise SystemExit('TensorFlow is loaded')\n", encoding="utf-8")
    command = [sys.executable, "-m", "radsynth", "train", str(make_prepared()), str(tmp_path / "run"),
               "train.images=16", "model.kind=mlp", "train.batch=8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env={
        **os.environ, "PYTHONPATH": os.pathsep.join([str(installed.parent), os.environ.get("PYTHONPATH", "")])})
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "tensorboard").iterdir())

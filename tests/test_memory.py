"""Memory: a clear end before the kernel's, images looked at a few at a time, nothing held when training has ended."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.batch import Care
from radsynth.errors import TrainingError
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._training import parts
from radsynth.verbs._training.examination import Found
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.memory import shares
from radsynth.verbs._training.options import Settings
from radsynth.verbs.train import train

SMALL = ("model.kind=sngan", "model.width=8", "train.batch=8", "train.images=64", "train.precision=32-true")
PROGRAM = """
import sys, time
from radsynth.verbs._training import memory
memory.shares = lambda: (float(sys.argv[1]), float(sys.argv[2]))
with memory.memory_guarded(lambda: "Memory ran out with 7 images at a time."):
    time.sleep(0.5)
print("went on")
"""


def guarded(left: float, ours: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, str(left), str(ours)], capture_output=True, text=True,
                          check=False, timeout=60)


def test_a_process_that_takes_all_memory_says_so_and_ends() -> None:
    done = guarded(0.01, 0.9)
    assert (done.returncode, done.stdout) == (TrainingError.exit_code, "")
    assert done.stderr == "radsynth: Memory ran out with 7 images at a time.\n"


def test_what_others_take_and_what_is_left_end_nothing() -> None:
    assert guarded(0.01, 0.1).stdout == guarded(0.5, 0.4).stdout == "went on\n"


def test_the_machine_tells_its_shares() -> None:
    left, ours = shares()
    assert 0 < left <= 1.01 and 0 <= ours < 1  # free memory and swap together may be a little more than the memory


@torch.no_grad()
def test_large_images_are_looked_at_a_few_at_a_time(
    make_prepared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared(make_prepared(labels=("small", "large")))
    settings = resolve(overrides=SMALL)
    task = build(settings, prepared.spec)
    loop = Loop(task, settings.section("train", Settings), prepared, RunFolder(tmp_path), 0)
    with torch.enable_grad():
        loop.take_step()
    assert loop.doctor
    together: list[int] = []
    for network in (*loop.networks.values(), loop.average.network):
        network.register_forward_pre_hook(lambda _, given: together.append(len(given[0])))
    rows = prepared.indices("train")[:20]

    def looked() -> tuple[Found, torch.Tensor]:
        assert loop.doctor
        return loop.doctor.examiner.look(loop, Care(), 1), loop.samples.make(loop.average.network, rows, range(20), 0)

    whole, images = looked()
    assert max(together) == 32 and len(whole.logits["generated"]) > 8
    together.clear()
    monkeypatch.setattr(parts, "AT_ONCE", 10 * 16 * 16)
    few, same = looked()
    loop.samples.calibrate()
    loop.samples.preview()
    assert max(together) == 8
    assert torch.allclose(images, same, atol=1e-5) and few.distance == pytest.approx(whole.distance, abs=1e-4)
    assert all(torch.allclose(few.logits[name], logits, atol=1e-4) for name, logits in whole.logits.items())


def test_a_training_that_has_ended_holds_no_memory(
    make_prepared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, build = [], Loop.__init__

    def noted(loop: Loop, *given: Any, **more: Any) -> None:
        made.append(weakref.ref(loop))
        build(loop, *given, **more)

    monkeypatch.setattr(Loop, "__init__", noted)
    gc.disable()  # it would come by at some time
    try:
        train(make_prepared(), tmp_path / "run", settings=resolve(overrides=SMALL))
        assert [loop() for loop in made] == [None]
    finally:
        gc.enable()

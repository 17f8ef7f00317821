"""Full disks and kill -9 outside of training: nothing is lost, nothing half done looks whole, and repeating goes on."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from radsynth.errors import FolderError
from radsynth.files import scratch
from radsynth.metrics._features import describe
from radsynth.run_folder import RunFolder
from radsynth.verbs.run import run
from radsynth.verbs.train import train
from tests.trained import SMALL


def killed(code: str, *arguments: object) -> None:
    """Run a script that kills itself by kill -9."""
    done = subprocess.run([sys.executable, "-c", f"import os, signal, sys\n{code}", *map(str, arguments)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr


AT_MOVE = """
from pathlib import Path
from radsynth.run_folder import RunFolder

rename, moves = Path.rename, [int(sys.argv[2])]

def counted(path, target):
    moves[0] -= 1
    if moves[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)

Path.rename = counted
RunFolder(Path(sys.argv[1])).set_aside()
"""
ASIDE = ["synthetic", "results.json", "report.html", "generator.json", "generator.safetensors"]
"""In the order in which they are moved."""


@pytest.mark.parametrize("move", range(len(ASIDE)))
@pytest.mark.parametrize("anew", [False, True])
def test_former_weights_and_what_was_made_with_them_stay_together_after_kill_9(move: int, anew: bool, tmp_path: Path,
                                                                               ) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic" / "0.png").write_text("former")
    for name in ("results.json", "report.html"):
        (tmp_path / name).write_text("former")
    former = folder.save_weights({"weight": torch.ones(3)}, {"images": 80})
    killed(AT_MOVE, tmp_path, move)
    if anew:  # 'generate' was called before training was gone on with
        (tmp_path / "synthetic").mkdir(exist_ok=True)
        (tmp_path / "synthetic" / "0.png").write_text("former")
    folder.set_aside()
    folder.save_weights({"weight": torch.zeros(3)}, {"images": 160})
    folders = sorted((tmp_path / "earlier").iterdir())
    found = sorted(path.name for folder in folders for path in folder.iterdir())
    twice = ["synthetic"] * (anew and move > 0)
    assert found == sorted(ASIDE + twice) and len(folders) == 1 + len(twice)
    (weights,) = (tmp_path / "earlier").rglob("generator.safetensors")
    assert RunFolder(weights.parent).load_weights()[1]["sha256"] == former
    assert folder.load_weights()[1]["images"] == 160
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "earlier", "generator.json", "generator.safetensors", "log.jsonl"]


AT_CACHE = """
from pathlib import Path
import numpy as np
from radsynth.metrics import _features

def half(file, **parts):
    (Path(file) if isinstance(file, (str, Path)) else Path(file.name)).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

np.savez = half
_features.describe(np.load(sys.argv[1]), np.arange(2), cache=Path(sys.argv[2]))
"""


def test_what_a_killed_process_left_of_a_cache_of_features_goes(tmp_path: Path) -> None:
    images, cache = np.random.default_rng(0).uniform(-1, 1, (2, 1, 16, 16)).astype(np.float32), tmp_path / "features"
    np.save(tmp_path / "images.npy", images)
    killed(AT_CACHE, tmp_path / "images.npy", cache)
    assert [path.read_bytes() for path in cache.iterdir()] == [b"half"]
    describe(images, np.arange(2), cache=cache)
    (kept,) = cache.iterdir()
    assert kept.suffix == ".npz" and not kept.name.startswith(".")


HOLDS = """
import time
from pathlib import Path
from radsynth.run_folder import RunFolder

with RunFolder(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_second_command_in_a_run_folder_is_refused_and_changes_nothing(make_prepared: Callable[..., Path],
                                                                         tmp_path: Path) -> None:
    scans, out, draw = tmp_path / "scans", tmp_path / "run", np.random.default_rng(0)
    for folder in (scans, out):
        folder.mkdir()
    for k in range(20):
        Pillow.fromarray(draw.integers(0, 255, (16, 16), np.uint8)).save(scans / f"p{k:02}.png")
    (out / "inspection.json").write_text('{"asked": "something else"}')
    (out / "plan.json").write_text("[]")
    data, little = make_prepared(), [*SMALL, "train.images=8"]
    with subprocess.Popen([sys.executable, "-c", f"import sys\n{HOLDS}", str(out)], stdout=subprocess.PIPE,
                          text=True) as first:
        assert first.stdout and first.stdout.readline() == "held\n"
        for command in (lambda: run(scans, out, overrides=little), lambda: train(data, out, overrides=little)):
            with pytest.raises(FolderError, match=r"is in use: another process trains or measures there\. Wait for it"):
                command()
        first.kill()
    assert (out / "plan.json").read_text() == "[]" and "something else" in (out / "inspection.json").read_text()
    assert sorted(path.name for path in out.iterdir()) == [".command.lock", "inspection.json", "plan.json"]
    assert train(data, out, overrides=little).trained


def test_a_folder_that_was_removed_under_a_command_is_told(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = "import os; os.rmdir(os.getcwd()); from radsynth.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "inspect", str(tmp_path)], cwd=tmp_path / "gone",
                          capture_output=True, text=True, check=False)
    assert done.returncode == 3 and done.stderr.startswith("radsynth: the current folder has been")


IN_EVALUATE = """
import radsynth.verbs.evaluate as verb
from pathlib import Path

verb.evaluate_prepared = lambda prepared, *_, **__: os.kill(os.getpid(), signal.SIGKILL)
verb.evaluate(Path(sys.argv[1]), Path(sys.argv[2]))
"""
IN_OTHERS = """
from pathlib import Path
from radsynth.arrays import IntensityMap
from radsynth.image import ImageSpec
from radsynth.verbs._other_images import other_images

intensity = IntensityMap(method="bits", low=0, high=255, levels=255)
with other_images(Path(sys.argv[1]), ImageSpec(size=(8, 8)), intensity, {}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("code", [IN_EVALUATE, IN_OTHERS])
def test_patients_images_of_a_killed_command_go_with_the_next(code: str, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for name in ("real", "made"):
        (tmp_path / name).mkdir()
        for k in range(12):
            Pillow.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / name / f"{k}.png")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    killed(code, tmp_path / "real", tmp_path / "made")
    assert list(temporary.rglob("*.images.npy"))
    with scratch() as own:
        assert own.is_dir()
        assert list(temporary.iterdir()) == [own.parent]
    assert not list(temporary.iterdir())

"""The pictures of an evaluation on the disk: nothing half written stays, and a full disk is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radsynth.errors import FolderError
from radsynth.verbs._evaluating.pictures import write_results


def test_pictures_of_patients_half_written_by_a_killed_process_go_where_none_are_asked_for(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    half = tmp_path / f".results.json.{gone.pid}.140.part" / "pictures"
    half.mkdir(parents=True)
    (half / "real.npy").write_text("a patient")
    write_results(tmp_path, {}, {"synthetic": np.zeros((1, 1, 8, 8), np.uint8)})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["pictures", "results.json", "synthetic.npy"]


def test_a_full_disk_is_told_by_its_name_when_pictures_are_written(small_disk: tuple[Path, Callable[[], None]]) -> None:
    """NumPy says of it how many bytes were written, no more."""
    place, enlarge = small_disk
    write_results(place, {"former": 1}, {"real": np.zeros((1, 1, 8, 8), np.uint8)})
    former = {path: path.read_bytes() for path in place.rglob("*.*")}
    pictures = {"synthetic": np.zeros((24, 1, 256, 256), np.uint8)}
    reason = "(No space left on device|File too large)"
    full = rf"^{place}/pictures/synthetic\.npy could not be written: {reason}.*Free some space"
    with pytest.raises(FolderError, match=full):
        write_results(place, {}, pictures)
    assert {path: path.read_bytes() for path in place.rglob("*.*")} == former, "the earlier evaluation is whole"
    enlarge()
    write_results(place, {}, pictures)
    assert sorted(path.name for path in place.rglob("*.*")) == ["results.json", "synthetic.npy"]

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
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / f".real.npy.{gone.pid}.140.part").write_text("a patient")
    write_results(tmp_path, {}, {"synthetic": np.zeros((1, 1, 8, 8), np.uint8)})
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["synthetic.npy"]


def test_a_full_disk_is_told_by_its_name_when_pictures_are_written(small_disk: tuple[Path, Callable[[], None]]) -> None:
    """NumPy says of it how many bytes were written, no more."""
    place, enlarge = small_disk
    pictures = {"synthetic": np.zeros((24, 1, 256, 256), np.uint8)}
    full = r"synthetic\.npy could not be written: (No space left on device|File too large).*Free some space"
    with pytest.raises(FolderError, match=full):
        write_results(place, {}, pictures)
    assert not list((place / "pictures").iterdir()) and not (place / "results.json").exists()
    enlarge()
    write_results(place, {}, pictures)

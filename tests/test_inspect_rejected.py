"""Files that are rejected: a line a reason on the terminal, and what to do about those that do not go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth.datasets import folder
from radsynth.errors import DataError
from radsynth.settings import resolve
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare


def test_a_rare_reason_does_not_hide_behind_twenty_files_of_another(tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / f"{number:02d}.png").touch()
    values = np.random.default_rng(0).integers(10, 200, (20, 16), np.uint8)
    Pillow.fromarray(values).save(tmp_path / "good.png")
    (tmp_path / "zz.png").write_bytes(b"no picture at all")
    text = inspect(tmp_path).text()
    assert "00.png: " in text and "(and 24 alike)" in text and "01.png: " not in text and "zz.png: " in text
    assert "--out writes them all to rejected.csv" in text


def test_mixed_bits_are_told_what_makes_them_alike(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 32, 32))
    (tmp_path / "mixed").mkdir()
    for number, one in enumerate(values):
        pixels = one.astype(np.uint8) if number % 2 else (one * 200).astype(np.uint16)
        Pillow.fromarray(pixels).save(tmp_path / "mixed" / f"{number}.png")
    with pytest.raises(DataError, match=r"mixes 2 groups(.|\n)*save all with the same bits, or prepare.intensity=perc"):
        prepare(folder.Settings(path=tmp_path / "mixed"), tmp_path / "out")
    settings = resolve(overrides=("prepare.intensity=percentiles", "prepare.size=[32,32]"))
    assert len(prepare(folder.Settings(path=tmp_path / "mixed"), tmp_path / "out2", settings=settings).rows) == 6

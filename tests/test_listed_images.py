"""The images of a synthetic set are those that its samples.csv lists, all of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError
from radsynth.verbs._evaluating.synthetic import read_synthetic
from radsynth.verbs.evaluate import evaluate
from tests.test_evaluate import discs, write_pictures


def test_a_missing_or_foreign_file_is_named(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    prepared = make_prepared(60)
    folder = write_pictures(tmp_path / "made", discs(4, 3))
    (folder / "images" / "000002.png").unlink()
    with pytest.raises(FolderError, match=r"1 of the files that .* lists is not in .*000002\.png"):
        evaluate(prepared, folder)
    table = folder / "samples.csv"
    table.write_text("file,index,seed,label\n../../etc/passwd,0,0,\n")
    with pytest.raises(FolderError, match="passwd"):
        evaluate(prepared, folder)
    with pytest.raises(FolderError, match="does not exist"):
        evaluate(prepared, tmp_path / "nowhere")


def test_many_images_take_no_more_memory_than_their_values(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    made = np.tile(discs(10, 3), (20, 1, 4, 4))
    prepared, folder = Prepared(make_prepared(12, (64, 64))), write_pictures(tmp_path / "made", made)
    read_synthetic(folder, prepared.spec, prepared.intensity)  # what is imported meanwhile is not counted
    tracemalloc.start()
    found = read_synthetic(folder, prepared.spec, prepared.intensity)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 200 and np.abs(found[np.arange(190, 200)] - made[:10]).max() < 0.01
    assert peak < 2e6, "200 images of 4096 pixels are 0.8 MB, and 3.3 MB as float32"


def test_a_table_that_was_cut_after_a_whole_line_does_not_pass_for_all(
    tmp_path: Path, make_prepared: Callable[..., Path]
) -> None:
    prepared, folder = Prepared(make_prepared(12)), write_pictures(tmp_path / "made", discs(4, 3))
    (folder / "generate.json").write_text("{}")
    (folder / "images" / "Thumbs.db").touch()
    (folder / "images" / "._000000.png").touch()
    table = folder / "samples.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(FolderError, match=r"does not list 2 of the files in .*images, such as 000002\.png: it was cut"):
        read_synthetic(folder, prepared.spec, prepared.intensity)
    whole = table.read_bytes()
    for damaged in (whole[:whole.rindex(b",1,")], bytes(range(256))):
        table.write_bytes(damaged)
        with pytest.raises(FolderError, match=r"samples\.csv cannot be read, or was cut\. Repeat"):
            read_synthetic(folder, prepared.spec, prepared.intensity)
    table.write_bytes(whole)
    for name in ("000002.png", "000003.png"):  # taken out by somebody who looked at them
        (folder / "images" / name).unlink()
    assert len(read_synthetic(folder, prepared.spec, prepared.intensity)) == 2


def test_what_lies_beside_images_is_no_image(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    prepared, folder = Prepared(make_prepared(12)), write_pictures(tmp_path / "made", discs(4, 3))
    (folder / "samples.csv").unlink()
    (folder / "README.md").write_text("By another generator.")
    (folder / "images" / "pixels.raw").write_bytes(bytes(256))
    assert len(read_synthetic(folder, prepared.spec, prepared.intensity)) == 4
    (folder / "images" / "000009.png").write_text("no picture")
    with pytest.raises(DataError, match=r"000009\.png cannot be used"):
        read_synthetic(folder, prepared.spec, prepared.intensity)

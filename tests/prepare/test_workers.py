"""Several workers: the same arrays, shared out so that no volume is decoded twice."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from radsynth.arrays import IntensityMap
from radsynth.errors import RadsynthError
from radsynth.image import Image
from radsynth.io import Header
from radsynth.verbs._preparing.chunks import cut, together
from tests.prepare.records import Prepare, dies, everything, picture, record, with_header


def test_arrays_are_bit_identical_for_any_number_of_workers(from_records: Prepare) -> None:
    mixed = [picture(n, (20 + n % 7, 31 - n % 5), bits=12, spacing=(1.0, 0.5 + n / 40)) for n in range(40)]
    records = [record(n, image, patient=f"p{n // 4}", label="ab"[n % 8 // 4]) for n, image in enumerate(mixed)]
    one, two, three = (from_records(records, str(n), workers=n, shard=8, size=[16, 24]) for n in (1, 2, 3))
    assert one.manifest == two.manifest == three.manifest
    np.testing.assert_array_equal(everything(one), everything(three))
    assert len({row.shard for row in one.rows}) == 5
    assert [(r.split, r.label, r.row, r.low) for r in one.rows] == [(r.split, r.label, r.row, r.low) for r in two.rows]


def test_a_killed_worker_is_an_error_that_says_what_to_do(from_records: Prepare) -> None:
    records = [record(n) for n in range(8)] + [record(9, dies)]
    with pytest.raises(RadsynthError, match="worker processes was killed"):
        from_records(with_header(records), workers=2, size=[8, 8], shard=3)


def test_few_images_still_make_work_for_several_workers(from_records: Prepare) -> None:
    prepared = from_records([record(n) for n in range(64)], size=[8, 8])
    assert len({row.shard for row in prepared.rows}) == 4, "shards of 16, though 256 would be allowed"


def counted(log: Path, volume: int, index: int) -> Image:
    """A slice of a volume of HU that is decoded once in a process, as `load_slice` does; each decoding is a line."""
    if _decoded.get("volume") != (os.getpid(), volume):
        with log.open("a", encoding="ascii") as file:
            file.write(f"{volume}\n")
        _decoded["volume"] = (os.getpid(), volume)
    return picture(1000 * volume + index, bits=12, modality="CT", units="HU")


_decoded: dict[str, tuple[int, int]] = {}


@pytest.mark.parametrize("workers", [1, 2])
def test_no_volume_is_decoded_twice(workers: int, from_records: Prepare, tmp_path: Path) -> None:
    header = Header(format="dicom", size=(20, 20), modality="CT", units="HU", bits=12)
    log, files = tmp_path / "log", [tmp_path / f"v{volume}" for volume in range(5)]
    for file in files:
        file.touch()
    records = [
        record(40 * volume + index, partial(counted, log, volume, index), patient=f"p{volume}", files=(str(file),),
               header=header)
        for volume, file in enumerate(files) for index in range(40)
    ]  # fmt: skip
    prepared = from_records(records, workers=workers, shard=16, size=[20, 20])
    assert len(prepared.rows) == 200 and {row.shard for row in prepared.rows} == set(range(15))
    assert sorted(log.read_text(encoding="ascii").split()) == list("01234")


def test_frames_of_one_file_are_shared_out(from_records: Prepare) -> None:
    header = Header(format="npz", size=(20, 20), frames=200)
    records = [record(n, patient="a", files=("stack.npz",), header=header) for n in range(200)]
    chunks = cut(records, plan=SimpleNamespace(size=(20, 20), channels=1, intensity=IntensityMap(
        method="bits", low=0, high=255, levels=255)), most=256)  # type: ignore[arg-type]
    assert [len(chunk) for chunk in chunks] == [16] * 12 + [8]
    assert together(range(13), chunks) == [[n] for n in range(13)]

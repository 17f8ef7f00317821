"""Prepared folders and batches: intensities there and back, damage, random numbers by (seed, item) alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from radsynth.arrays import IntensityMap, Prepared, mapped
from radsynth.batch import Batch
from radsynth.errors import FolderError


def test_hounsfield_units_survive_within_half_a_step() -> None:
    mapping = IntensityMap(method="window", low=-1024, high=3071, levels=65535)
    values = np.random.default_rng(0).uniform(-1024, 3071, 10_000).astype(np.float32)
    back = mapping.decode(mapping.to_network(mapping.encode(values)))
    # Half a step of the stored integers, and the rounding of fp32 at 4000.
    assert np.abs(back - values).max() <= 4095 / 65535 / 2 + 5e-4
    assert np.array_equal(mapping.encode(np.array([-2000.0, 5000.0])), [0, 65535])


def test_eight_bits_survive_exactly() -> None:
    mapping = IntensityMap(method="bits", low=0, high=255, levels=255)
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(np.rint(mapping.decode(mapping.to_network(mapping.encode(values)))), values)


def batch(*items: int, seed: int = 5) -> Batch:
    return Batch(images=torch.empty(len(items), 0), seed=seed, items=items)


def test_random_numbers_depend_on_seed_item_and_stream_alone() -> None:
    many = batch(*range(40)).normal("latent", 7)
    assert torch.equal(many[[3, 39]], batch(3, 39).normal("latent", 7))
    assert not torch.equal(many, batch(*range(40), seed=6).normal("latent", 7))
    assert not torch.equal(many, batch(*range(40)).normal("other", 7))
    big = batch(2**40).uniform("latent", 1000)
    assert big.min() >= 0 and big.max() < 1 and abs(float(big.mean()) - 0.5) < 0.05


def test_random_numbers_are_standard_normal_and_independent_between_items() -> None:
    draws = batch(*range(2000)).normal("latent", 8)
    assert abs(float(draws.mean())) < 0.03 and abs(float(draws.std()) - 1) < 0.03
    correlation = np.corrcoef(draws[:-1].flatten().numpy(), draws[1:].flatten().numpy())[0, 1]
    assert abs(correlation) < 0.03


def test_a_prepared_folder_gives_back_what_was_written(make_prepared: Callable[..., Path]) -> None:
    folder = make_prepared(n=12, labels=("small", "large"))
    data = Prepared(folder)
    assert data.spec.labels == ("small", "large") and len(data.indices("train")) == 8
    images = data.images(data.indices("train", 1))
    assert images.shape == (4, 1, 16, 16) and images.dtype == np.float32
    assert images.min() == -1 and 0 < images.max() <= 1
    assert set(data.labels(data.indices("train", 1))) == {1}


def test_shards_do_not_stay_open(make_prepared: Callable[..., Path]) -> None:
    data = Prepared(make_prepared())
    opened = len(os.listdir("/dev/fd"))
    shard = data._shard("00000.images.npy")
    assert len(os.listdir("/dev/fd")) == opened and not shard.flags.writeable  # thousands of volumes: as many shards


def test_mapped_arrays_are_those_of_numpy(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint16).reshape(3, 1, 4, 5)
    for k, array in enumerate((values, values.astype(np.uint8), np.asfortranarray(values))):
        np.save(tmp_path / f"{k}.npy", array)
        assert np.array_equal(mapped(tmp_path / f"{k}.npy"), array)
        assert mapped(tmp_path / f"{k}.npy").dtype == array.dtype


@pytest.mark.parametrize("damage", ["manifest.json", "records.csv", "shards/00000.images.npy"])
def test_missing_or_damaged_parts_are_named(damage: str, make_prepared: Callable[..., Path]) -> None:
    folder = make_prepared()
    for change in (lambda path: path.write_bytes(b"x"), lambda path: path.unlink()):
        change(folder / damage)
        named = f"{Path(damage).stem}.* Delete {folder} and" if damage.startswith("shards") else "repare"
        with pytest.raises(FolderError, match=named):
            data = Prepared(folder)
            data.images(data.indices("train"))
            pytest.fail(f"{len(data.rows)} rows were read")


def test_a_file_is_no_prepared_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    with pytest.raises(FolderError, match="is not a complete prepared folder"):
        Prepared(tmp_path / "file")

"""Where too few images are held out to tell copies from chance, the closest pairs are shown all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.errors import DataError
from radsynth.verbs.evaluate import Settings, evaluate_prepared, write_unmeasured
from tests.compared import compare
from tests.phantoms import phantoms
from tests.test_evaluate import FAST, discs


def test_where_too_few_are_held_out_the_closest_pairs_of_all_synthetic_images_are_shown(tmp_path: Path) -> None:
    """Of as many as were held out: 3 of 500, with a share of 3 unseen images that is no share."""
    training, made = discs(10, 2), discs(90, 3)
    made[70] = training[4, :, :, ::-1]
    results = compare(discs(3, 1), training, made, settings=FAST, out=tmp_path)
    pair = results["neighbours"][0]
    assert (pair["synthetic"], pair["training"]) == (70, 4) and pair["likeness"] > 0.95
    assert all(set(one) == {"synthetic", "training", "likeness"} for one in results["neighbours"])
    shown = np.load(tmp_path / "pictures" / "neighbours.npy")
    assert shown.shape == (3, 2, 1, 16, 16) and np.array_equal(shown[0, 0], shown[0, 1, :, :, ::-1])
    blind = Settings(repetitions=10, pairs=3, real_pictures=False)
    compare(discs(3, 1), training, made, settings=blind, out=tmp_path)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["synthetic.npy"]


def test_where_nothing_can_be_measured_the_closest_pairs_are_shown(
    tmp_path: Path, make_prepared: Callable[..., Path]
) -> None:
    """Of one patient, whom a generator learns by heart most easily."""
    data = make_prepared(12)
    table = data / "records.csv"
    table.write_text(table.read_text().replace("validation,", "train,").replace("test,", "train,"))
    seen = np.rint((phantoms(12, 1, (16, 16)) + 1) * 127.5)
    np.save(data / "shards" / "00000.images.npy", seen.astype(np.uint8))
    prepared, made = Prepared(data), phantoms(60, 3, (16, 16))
    made[33] = prepared.images(prepared.own("train")[:1])[0]
    with pytest.raises(DataError, match="There are too few images: 0 held-out"):
        evaluate_prepared(prepared, made, settings=FAST)
    results = write_unmeasured(prepared, made, "Too few.", FAST, tmp_path)
    assert (results["neighbours"][0]["synthetic"], results["neighbours"][0]["training"]) == (33, 0)
    assert np.load(tmp_path / "pictures" / "neighbours.npy").shape == (3, 2, 1, 16, 16)
    write_unmeasured(prepared, made, "Too few.", Settings(real_pictures=False), tmp_path)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["synthetic.npy"]

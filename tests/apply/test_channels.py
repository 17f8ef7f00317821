"""Several channels through apply: each in its own range, and a file for each where a format holds no more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import RGB, Image
from radsynth.io import read, write
from radsynth.settings import resolve
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.channels import taken
from radsynth.verbs.apply import apply
from radsynth.verbs.train import train
from tests.apply.examples import Make, disc
from tests.tables import rows
from tests.written import FROM


def with_intensity(run: Path, **changes: object) -> Path:
    document = json.loads((run / "spec.json").read_text())
    document["intensity"] |= changes
    (run / "spec.json").write_text(json.dumps(document))
    return run


def test_each_channel_of_another_domain_keeps_its_own_range(make_run: Callable[..., Path]) -> None:
    run = make_run("task.kind=cycle", labels=("a", "b"), channels=("t1", "t2"), modality="MR", bits=16)
    applier = Applier(with_intensity(run, method="percentiles"))
    pixels = np.concatenate([disc((16, 16)) * np.uint16(10), disc((16, 16), 1)]).astype(np.uint16)
    made, _ = applier.convert(Image(pixels=pixels, modality="MR", bits=16, channels=("t1", "t2")))
    assert made.pixels[0].max() > 1000 and made.pixels[1].max() < 250


@pytest.mark.parametrize(("bits", "ranges"), [(32, [[-1000, 80], [0, 9]]), (16, [[0, 400], [-1000, 80]])])
def test_another_contrast_comes_out_in_the_range_that_is_usual_for_it(
    bits: int, ranges: list[list[int]], make_run: Callable[..., Path],
) -> None:
    """PET made of CT was written in Hounsfield units, CT made of MR in the grey levels of MR."""
    run = make_run("task.kind=translate", "task.inputs=[a]", "task.outputs=[b]", channels=("a", "b"), bits=bits)
    applier = Applier(with_intensity(run, method="percentiles", ranges=ranges))
    given = Image(pixels=disc((16, 16)).astype(np.uint16), bits=12, channels=("a",), modality="CT")
    made, _ = applier.convert(given)
    low, high = ranges[1]
    assert made.modality == "OT", "it is no CT that a network of CT and others makes of one"
    assert (made.units, made.bits) == ("stored", bits) and made.pixels.dtype.kind == ("f" if bits == 32 else "i")
    assert low <= made.pixels.min() < made.pixels.max() <= high
    older, _ = Applier(with_intensity(run, ranges=[])).convert(given)
    dark, bright = np.percentile(given.pixels, (0.5, 99.5))
    apart = (made.pixels - low) / (high - low) - (older.pixels - dark) / (bright - dark)
    assert older.pixels.dtype == np.uint16 and older.bits == 12 and np.abs(apart).max() < 0.01


def test_what_lies_outside_of_the_range_survives_a_restoration_from_pairs(make_run: Callable[..., Path]) -> None:
    applier = Applier(make_run("task.kind=restore", "task.what=pairs", channels=("low", "full"), bits=16))
    pixels = disc((16, 16)).astype(np.int32)
    pixels[0, 3, 3], pixels[0, 4, 4] = 5000, -300  # the run maps 0 to 255
    given = Image(pixels=pixels, bits=16, channels=("low",), window=(10, 90))
    made, _ = applier.convert(given)
    assert abs(int(made.pixels[0, 3, 3]) - 5000) < 60 and abs(int(made.pixels[0, 4, 4]) + 300) < 60
    assert made.window == (10, 90) and made.channels == ("full",)


def test_contrasts_become_a_file_each_where_the_format_holds_one(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("task.kind=restore", "task.what=rician", "data.kind=contrasts", "data.path=x",
                   "data.contrasts=[t1,t2]", channels=("t1", "t2"), modality="MR", format="nifti")
    for name in ("t1", "t2"):
        write(Image(pixels=disc((16, 16)), modality="MR", spacing=(1.0, 1.0)), tmp_path / "in" / f"{name}.nii.gz",
              provenance=FROM)
    expected = {"nifti": ["000000.nii.gz"], "dicom": ["000000_t1.dcm", "000000_t2.dcm"],
                "png": ["000000_t1.png", "000000_t2.png"], "tiff": ["000000_t1.tiff", "000000_t2.tiff"]}
    for format, names in expected.items():
        made = apply(run, tmp_path / "in", tmp_path / format, format=format)
        assert made.count == 1 and [Path(row["file"]).name for row in rows(made.folder)] == names
    with pytest.raises(SettingsError, match="there is no format 'jpeg'"):
        apply(run, tmp_path / "in", tmp_path / "no", format="jpeg")


def test_an_image_that_lacks_a_channel_is_checked_by_a_segmenter_that_has_learned_to_go_without(
    make_run: Callable[..., Path]
) -> None:
    applier = Applier(make_run("task.kind=translate", "task.missing=0.3", "task.outputs=[flair]",
                               channels=("t1", "t2", "flair")))
    both = np.concatenate([disc((16, 16)), disc((16, 16), 1)])
    for channels, may_lack, expected in ((("t1", "t2"), False, [7.0]), (("t1", "pd"), False, [np.nan]),
                                         (("t1", "pd"), True, [7.0])):
        applier.anatomy = cast(Any, SimpleNamespace(
            differences=lambda given, made, crops: (None, np.full(len(given), 7.0)),
            given=SimpleNamespace(may_lack=may_lack)))
        found = applier.convert(Image(pixels=both, channels=channels))[1]["anatomy"]
        assert np.array_equal(found, expected, equal_nan=True)


def test_a_painting_in_colour_is_one_file(make_prepared: Make, tmp_path: Path) -> None:
    colours = ("red", "green", "blue")
    data = make_prepared(n=12, channels=colours, mask_classes=2)
    masks = (np.load(data / "shards" / "00000.images.npy")[:, 0] > 70).astype(np.uint8)
    np.save(data / "shards" / "00000.masks.npy", masks)
    train(data, tmp_path / "run", settings=resolve(overrides=(
        "task.kind=semantic", "model.width=8", "model.discriminator_width=8", "train.images=8", "train.batch=8",
        "train.previews=0")))
    write(Image(pixels=disc((16, 16)) // 200), tmp_path / "mask.png", provenance=FROM)
    made = apply(tmp_path / "run", tmp_path / "mask.png", tmp_path / "out")
    (row,) = rows(made.folder)
    image = read(made.folder / row["file"])
    assert isinstance(image, Image) and image.channels == colours


def test_a_grey_image_for_a_network_of_colours_is_to_be_saved_in_colour() -> None:
    grey = Image(pixels=disc((16, 16)))
    with pytest.raises(RejectedFile, match=r"red, green, blue\. Save it in colour"):
        taken(grey, RGB)
    with pytest.raises(RejectedFile, match="Give a folder that holds a file of each"):
        taken(grey, ("t1", "t2"))


def test_a_name_that_looks_like_a_formula_is_none_in_the_table(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("task.kind=restore", "task.what=rician")
    for name in ("=1+1", "two  blanks"):
        write(Image(pixels=disc((16, 16))), tmp_path / "in" / f"{name}.png", provenance=FROM)
    made = apply(run, tmp_path / "in", tmp_path / "out")
    assert {row["source"] for row in rows(made.folder)} == {"'=1+1.png", "two  blanks.png"}


def test_archives_are_read_as_folders_are(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """Examinations of several contrasts, too: their files belong together."""
    run = make_run("task.kind=translate", "task.inputs=[t1,t2]", "data.kind=contrasts", "data.path=x",
                   "data.contrasts=[t1,t2,flair]", channels=("t1", "t2", "flair"), format="nifti")
    for name in ("t1", "t2"):
        write(Image(pixels=disc((16, 16)), spacing=(1.0, 1.0)), tmp_path / "in" / "P1" / f"{name}.nii.gz",
              provenance=FROM)
    packed = shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")
    assert apply(run, Path(packed), tmp_path / "out").count == 1
    both = Image(pixels=np.concatenate([disc((16, 16))] * 2), channels=("t1", "t2"))
    write(both, tmp_path / "both.npz", provenance=FROM)
    assert apply(run, tmp_path / "both.npz", tmp_path / "image").count == 1, "an npz file is an image"
    with pytest.raises(DataError, match="does not exist"):
        apply(run, tmp_path / "nowhere", tmp_path / "no")

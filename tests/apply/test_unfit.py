"""Apply refuses other data, other runs and targets that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from radsynth.arrays import IntensityMap
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image, ImageSpec
from radsynth.io import write
from radsynth.settings import resolve
from radsynth.verbs._applying.values import check_values
from radsynth.verbs._preparing.few_values import has_few_values
from radsynth.verbs.apply import apply
from radsynth.verbs.generate import generate
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from tests.apply.examples import Make, disc
from tests.tables import rows
from tests.written import FROM


@pytest.mark.parametrize(("change", "message"), [
    ({"modality": "CT", "units": "HU"}, "its modality is CT; the run was trained on MR"),
    ({"spacing": (0.5, 0.5)}, "spacing is 0.5 x 0.5 mm; the run expects 1 x 1 mm.* loses what is finer, and the"),
])
def test_other_data_than_in_training_is_refused(
    change: dict[str, Any], message: str, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run("task.kind=restore", "task.what=rician", "data.kind=folder", "data.path=there", "data.modality=MR",
                   modality="MR", spacing=(1.0, 1.0))
    image = Image(pixels=disc((16, 16)).astype(np.int16), modality="MR", bits=12, spacing=(1.0, 1.0)).replace(**change)
    write(image, tmp_path / "in.dcm", provenance=FROM)  # which says what it is, whatever was told of the training's
    with pytest.raises(DataError, match=message):
        apply(run, tmp_path / "in.dcm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("bits", "top", "units", "method", "levels", "message"), [
    (16, 4000, "stored", "bits", 255, "go up to 4000; the run was trained on 8 bits"),
    (16, 255, "stored", "bits", 255, ""),
    (8, 255, "stored", "bits", 4095, "have 8 bits; the run was trained on values from 0 to 4095"),
    (16, 4000, "stored", "bits", 4095, ""),
    (8, 255, "stored", "percentiles", 255, ""),
    (8, 255, "stored", "window", 65535, "cannot be Hounsfield units"),
    (12, 3000, "HU", "window", 65535, ""),
    (32, 200, "HU", "bits", 255, "are Hounsfield units; the run was trained on 8 bits"),
    (16, 60000, "stored", "bits", 4095, "go up to 60000; the run was trained on values from 0 to 4095"),
    (32, 4000, "stored", "bits", 255, "go up to 4000; the run was trained on values from 0 to 255"),
    (16, 8000, "stored", "bits", 4095, ""),
])
def test_values_that_cannot_mean_what_those_of_the_training_meant_are_refused(
    bits: int, top: int, units: str, method: str, levels: int, message: str
) -> None:
    image = Image(pixels=np.array([[[0, top]]], np.uint8 if bits == 8 else np.int32), bits=bits, units=units)
    spec = ImageSpec(size=(16, 16), units="HU" if method == "window" else "stored", bits=8 if levels == 255 else 12)
    intensity = IntensityMap(method=method, low=0.0, high=float(levels), levels=levels)
    with pytest.raises(RejectedFile, match=message) if message else nullcontext():
        check_values(image, spec, intensity)


@pytest.mark.parametrize(("top", "method", "units", "high", "refused"), [
    (1.0, "bits", "stored", 255.0, True),
    (1.0, "window", "HU", 255.0, True),
    (1.0, "percentiles", "HU", 255.0, False),
    (1.5, "bits", "stored", 255.0, False),
    (1.0, "window", "stored", 5.0, False),  # SUV of an image without a hot spot
    (0.0, "bits", "stored", 255.0, False),
])
def test_shares_of_a_range_are_no_values_of_a_scanner(
    top: float, method: str, units: str, high: float, refused: bool
) -> None:
    """A network that knows 0 to 255 made a black image of a picture that was scaled to 0 to 1."""
    image = Image(pixels=np.linspace(0, top, 16, dtype=np.float32).reshape(1, 4, 4), bits=32)
    intensity = IntensityMap(method=method, low=0.0, high=high, levels=255)
    with pytest.raises(RejectedFile, match="as shares of a range") if refused else nullcontext():
        check_values(image, ImageSpec(size=(4, 4), units=units, bits=8), intensity)


def test_runs_and_targets_that_do_not_fit_are_refused(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("task.kind=cycle", labels=("small", "large"))
    write(Image(pixels=disc((16, 16))), tmp_path / "in.png", provenance=FROM)
    with pytest.raises(SettingsError, match="radsynth apply"):
        generate(run, tmp_path / "drawn", count=1)
    with pytest.raises(SettingsError, match=r"--contrast is for runs .* on several contrasts"):
        apply(run, tmp_path / "in.png", tmp_path / "out", contrasts=["t1=x"])
    with pytest.raises(SettingsError, match="it can go to large, small"):
        apply(run, tmp_path / "in.png", tmp_path / "out", target="huge")
    for target in ("small", "large"):
        made = apply(run, tmp_path / "in.png", tmp_path / target, target=target)
        assert (made.count, made.target) == (1, target)
    (run / "results.json").write_text('{"limits": {"edges": -1}}')
    assert apply(run, tmp_path / "in.png", tmp_path / "flagged").flagged == 1
    assert json.loads((tmp_path / "small" / "apply.json").read_text())["target"] == "small"


def test_a_run_from_noise_takes_no_images(make_prepared: Make, tmp_path: Path) -> None:
    settings = resolve(overrides=("model.kind=mlp", "train.images=8", "train.batch=4", "train.previews=0",
                                  "train.precision=32-true"))
    train(make_prepared(n=12), tmp_path / "run", settings=settings)
    write(Image(pixels=disc((16, 16))), tmp_path / "in.png", provenance=FROM)
    with pytest.raises(SettingsError, match="takes none"):
        apply(tmp_path / "run", tmp_path / "in.png", tmp_path / "out")


@pytest.mark.parametrize(("values", "few"), [
    (np.arange(256, dtype=np.uint8) % 3, True), (np.arange(256, dtype=np.uint8) % 2 * 255, True),
    (np.arange(256, dtype=np.float32) % 16, True), (np.arange(256, dtype=np.float32) % 17, False),
    (np.arange(256, dtype=np.float32) % 4 / 8, False), (np.zeros(256, np.uint8), False),
    (np.where(np.arange(40_000) % 40 == 1, np.arange(40_000) // 40, 0).astype(np.int16), False),
])
def test_a_few_whole_numbers_are_told_from_greys(values: np.ndarray[Any, Any], few: bool) -> None:
    assert has_few_values(values.reshape(1, 16, -1)) is few


@pytest.mark.parametrize("usual", ["", "{}", '{"limits": {"edges": 1000}}', '{"limits": {"edges": -1}}'])
def test_a_label_map_among_images_is_named_and_flagged(
    usual: str, make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run("task.kind=restore", "task.what=rician")
    if usual:
        (run / "results.json").write_text(usual)
    (tmp_path / "in").mkdir()
    write(Image(pixels=disc((16, 16))), tmp_path / "in" / "a.png", provenance=FROM)
    write(Image(pixels=(disc((16, 16)) > 100).astype(np.uint8)), tmp_path / "in" / "b.png", provenance=FROM)
    result = apply(run, tmp_path / "in", tmp_path / "out")
    flagged = {row["source"]: row["flagged"] for row in rows(tmp_path / "out")}
    others = "edges" if "-1" in usual else "" if "limits" in usual else "unknown"
    assert flagged == {"a.png": others, "b.png": "edges few_values" if others == "edges" else "few_values"}
    assert result.flagged == {"edges": 2, "": 1, "unknown": None}[others]
    said = capsys.readouterr().err
    assert "mind: b.png has at most 16 different values" in said and "a.png" not in said
    (tmp_path / "in" / "c.png").write_bytes((tmp_path / "in" / "b.png").read_bytes())
    apply(run, tmp_path / "in", tmp_path / "more")
    assert "mind: 2 images, the first of them b.png, have at most" in capsys.readouterr().err


@pytest.mark.parametrize(("share", "flagged"), [(0.0, "few_values"), (0.05, "few_values"), (0.5, "")])
def test_what_was_usual_in_training_is_not_flagged(share: float, flagged: str, make_run: Callable[..., Path],
                                                   tmp_path: Path) -> None:
    run = make_run("task.kind=restore", "task.what=rician")
    (run / "results.json").write_text('{"limits": {"edges": 1000}}')
    document = json.loads((run / "spec.json").read_text())
    assert document["few_values"] == 0
    (run / "spec.json").write_text(json.dumps(document | {"few_values": share}))
    write(Image(pixels=(disc((16, 16)) > 100).astype(np.uint8)), tmp_path / "a.png", provenance=FROM)
    apply(run, tmp_path / "a.png", tmp_path / "out")
    assert [row["flagged"] for row in rows(tmp_path / "out")] == [flagged]


def test_prepare_counts_images_of_few_values(tmp_path: Path) -> None:
    for number in range(6):
        image = disc((16, 16), number)
        write(Image(pixels=image if number < 3 else np.roll(image // 100, number)), tmp_path / "in" / f"p{number}.png",
              provenance=FROM)
    prepare(tmp_path / "in", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["few_values"] == 0.5


def test_label_maps_are_named_for_registration_too(make_run: Callable[..., Path], tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("task.kind=register", "task.refinement=0")
    write(Image(pixels=disc((16, 16))), tmp_path / "a.png", provenance=FROM)
    write(Image(pixels=(disc((16, 16)) > 100).astype(np.uint8)), tmp_path / "b.png", provenance=FROM)
    apply(run, tmp_path / "b.png", tmp_path / "moved", onto=tmp_path / "a.png")
    assert "few_values" in rows(tmp_path / "moved")[0]["flagged"].split()
    assert "mind: b.png has at most 16" in capsys.readouterr().err
    apply(run, tmp_path / "a.png", tmp_path / "onto", onto=tmp_path / "b.png")
    assert "mind: b.png, which images are put onto, has at most 16" in capsys.readouterr().err


def test_nan_and_other_oddities_of_a_header_are_noted(
    make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    run, given = make_run("task.kind=restore", "task.what=rician"), tmp_path / "in"
    given.mkdir()
    for name, empty in (("a", 0), ("b", 2)):
        values = disc((16, 16))[0].astype(np.float32)
        values[:, :empty] = np.nan
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if empty else None), given / f"{name}.nii")
    apply(run, given, tmp_path / "out")
    told = {row["source"]: row["notes"] for row in rows(tmp_path / "out")}
    assert told["a.nii"] == "it has no orientation: left and right are not certain"
    assert told["b.nii"].startswith("NaN around what is shown: read as background, which is 0")
    said = capsys.readouterr().err
    assert "mind: 1 x NaN around what is shown" in said and "mind: 1 x it has no orientation" in said


def test_slices_of_another_plane_are_noted(make_run: Callable[..., Path], tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    """A network of axial slices takes a sagittal one, which is no reason to refuse it where a header is wrong."""
    run, given = make_run("task.kind=restore", "task.what=rician", spacing=(1.0, 1.0),
                          directions=(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)), tmp_path / "in"
    given.mkdir()
    tilt = np.deg2rad(40)
    leaning = np.eye(4)
    leaning[1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    for name, shape, affine in (("axial", (16, 16, 1), np.eye(4)), ("sagittal", (1, 16, 16), np.eye(4)),
                                ("leaning", (16, 16, 1), leaning), ("nowhere", (16, 16, 1), None)):
        nibabel.save(nibabel.Nifti1Image(disc((16, 16)).reshape(shape), affine), given / f"{name}.nii")
    apply(run, given, tmp_path / "out")
    told = {row["source"]: row["notes"] for row in rows(tmp_path / "out")}
    assert [name for name, note in told.items() if "another plane" in note] == ["sagittal.nii"] and len(told) == 4
    assert "mind: 1 x its slice lies in another plane than those of the training" in capsys.readouterr().err

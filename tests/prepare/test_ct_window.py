"""CT whose files ask for no window, as NIfTI, is shown and written in the usual one of what it shows."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth.arrays import IntensityMap
from radsynth.image import Image, ImageSpec
from radsynth.io import read
from radsynth.verbs._inspecting.page import Thumbnail
from radsynth.verbs._preparing.ct_window import LUNGS, SOFT_TISSUE, ct_window
from radsynth.verbs._writing import Drawn, Writing
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare


def body(*, lungs: bool, seed: int = 0) -> np.ndarray:
    """A slice in HU: air, fat around soft tissue, a bone, with or without lungs."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    found = np.full((48, 48), -1000.0)
    found[x**2 / 0.6 + y**2 / 0.3 < 1] = -100
    found[x**2 / 0.5 + y**2 / 0.24 < 1] = 40
    if lungs:
        found[(np.abs(x) - 0.36) ** 2 / 0.07 + y**2 / 0.15 < 1] = -830
    found[x**2 + (y - 0.4) ** 2 < 0.006] = 900
    return np.rint(found + np.random.default_rng(seed).normal(0, 40, found.shape))


@pytest.mark.parametrize(("lungs", "window"), [(True, LUNGS), (False, SOFT_TISSUE)])
def test_what_is_shown_decides_where_no_file_does(lungs: bool, window: tuple[float, float]) -> None:
    values = body(lungs=lungs)
    assert ct_window(values, None) == window
    assert ct_window(values, (0.0, 80.0)) == (0.0, 80.0)
    assert ct_window(values, (values.min(), values.max())) == window, "all values are no window"
    assert ct_window(np.full((4, 4), -1000.0), None) == SOFT_TISSUE


@pytest.mark.parametrize(("lungs", "window"), [(True, LUNGS), (False, SOFT_TISSUE)])
def test_volumes_of_nifti_get_it(lungs: bool, window: tuple[float, float], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for patient in range(3):
        volume = np.stack([body(lungs=lungs, seed=8 * patient + k) for k in range(4)], axis=-1).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 5.0, 1.0])), tmp_path / "in" / f"p{patient}.nii.gz")
    prepared = prepare(tmp_path / "in", tmp_path / "out", workers=1, overrides=["data.modality=CT"])
    assert prepared.spec.units == "HU" and prepared.spec.window == window
    made = inspect(tmp_path / "in").pictures[0]
    assert (tone(made) == 0) == (not lungs), "air is black in the window of soft tissue, and dark grey in that of lungs"


def tone(made: Thumbnail) -> int:
    """The grey of the air in the corner of a small picture."""
    return int(np.median(np.asarray(Pillow.open(io.BytesIO(made.png)))[:8, :8]))


def test_pictures_of_eight_bits_keep_theirs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k in range(3):
        grey = np.clip((body(lungs=False, seed=k) + 160) * 255 / 400, 0, 255).astype(np.uint8)
        Pillow.fromarray(grey).save(tmp_path / "in" / f"p{k}.png")
    assert prepare(tmp_path / "in", tmp_path / "out", overrides=["data.modality=CT"], workers=1).spec.window is None


@pytest.mark.parametrize(("kind", "method"), [("png", "bits"), ("npz", "bits"), ("stack", "bits"),
                                              ("nii", "percentiles"), ("channels", "percentiles")])
def test_eight_bits_are_no_hounsfield_units_whatever_the_modality(kind: str, method: str, tmp_path: Path) -> None:
    """Somebody has mapped them to 0 to 255, which is a sliver of the range of CT."""
    grey = np.random.default_rng(0).integers(0, 256, (6, 16, 16)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    if kind == "stack":
        np.savez(tmp_path / "in.npz", images=grey)
    for k, one in enumerate(grey if kind != "stack" else ()):
        path = tmp_path / "in" / f"p{k}"
        if kind == "png":
            Pillow.fromarray(one).save(path.with_suffix(".png"))
        elif kind == "npz":
            np.savez(path.with_suffix(".npz"), image=one)
        else:
            for name in (("_a", "_b") if kind == "channels" else ("",)):
                nibabel.save(nibabel.Nifti1Image(one[..., None], np.eye(4)), f"{path}{name}.nii.gz")
    more = ["data.kind=contrasts", "data.contrasts=[a=_a$,b=_b$]"] if kind == "channels" else []
    source = tmp_path / ("in.npz" if kind == "stack" else "in")
    prepared = prepare(source, tmp_path / "out", workers=1,
                       overrides=["data.modality=CT", "prepare.size=[16,16]", *more])
    assert (prepared.spec.modality, prepared.spec.units, prepared.intensity.method) == ("CT", "stored", method)
    images = prepared.images(np.arange(len(prepared.rows)))
    assert images.min() < -0.98 and images.max() > 0.98


def test_pictures_that_are_made_can_be_compared_whatever_the_window(tmp_path: Path) -> None:
    """Floating point is stored by the range of all images, not by each image's own."""
    spec = ImageSpec(size=(8, 8), modality="CT", units="HU", bits=32, window=SOFT_TISSUE, format="nifti")
    writing = Writing(spec=spec, intensity=IntensityMap(method="window", low=-1024.0, high=1500.0, levels=65535),
                      facts={"model": "mlp", "sha256": "ab" * 32}, seed=0, origin="noise")
    images = np.linspace(-0.9, 0.5, 2 * 64, dtype=np.float32).reshape(2, 1, 8, 8)
    drawn = Drawn(images=images, labels=np.full(2, -1))
    made = [row["file"] for rows in writing.all(iter([drawn]), tmp_path, "png", 0, 2) for row in rows]
    stored = np.stack([np.asarray(Pillow.open(tmp_path / str(name))) for name in made])
    assert np.allclose(stored.ravel() / 65535, (images.ravel() + 1) / 2, atol=1e-4)
    back: Image = read(tmp_path / str(made[0]))
    assert back.pixels.min() == pytest.approx(-1024 + 0.05 * 2524, abs=0.1)

"""Contrasts of several modalities, such as MR and CT of one patient: each channel keeps what it is."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from radsynth.datasets import Rejected, contrasts, nnunet
from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io import read, write
from radsynth.settings import resolve
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs.apply import apply
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from tests.apply.examples import disc
from tests.written import FROM

CT, MR = ("CT", "HU"), ("MR", "stored")
CONTRASTS = ("ct=^CT", "mr=^T1")


def studies(folder: Path, count: int = 4, bare: int = -1) -> Path:
    """DICOM of patients with CT and T1 each; `bare`: the patient without T1."""
    rng = np.random.default_rng(0)
    for n in range(count):
        inside = disc((20, 20))[0] > 100
        values = {"CT": np.where(inside, 40, -1000) + rng.integers(-20, 20, (4, 20, 20)),
                  "T1": np.where(inside, 600, 20) + rng.integers(-20, 20, (4, 20, 20))}
        for name, pixels in values.items():
            modality, units = CT if name == "CT" else MR
            image = Image(pixels=pixels[None].astype(np.int16), modality=modality, units=units, bits=16,
                          spacing=(3.0, 1.0, 1.0), affine=np.diag([1.0, 1.0, 3.0, 1.0]))
            for path in write(image, folder / f"P{n}" / name, provenance=FROM, format="dicom") if (
                    n != bare or name == "CT") else ():
                dataset = pydicom.dcmread(path)
                dataset.PatientID, dataset.SeriesDescription = f"P{n}", name
                dataset.save_as(path)
    return folder


def test_each_contrast_keeps_its_modality_and_units(tmp_path: Path) -> None:
    """All counted as what the first is: MR before CT made synthetic CT a MR, CT before MR was refused for values
    below 0."""
    studies(tmp_path / "data", bare=1)
    rejected: list[Rejected] = []
    settings = contrasts.Settings(path=tmp_path / "data", contrasts=CONTRASTS)
    records = list(contrasts.records(settings, rejected))
    assert len(records) == 16 and not rejected
    for record in records:
        image, header = record.load(), record.header
        assert header is not None and header.kinds == (CT, MR), "also where one lacks"
        assert (image.modality, image.units) == (header.modality, header.units) == ("OT", "stored")
    found = inspect(settings)
    assert "modality   CT and MR, values as stored" in found.text() and found.mapping == "percentiles"
    prepared = prepare(settings, tmp_path / "prepared")
    assert prepared.spec.kinds == (CT, MR) and prepared.manifest.counts["train"]
    assert type(prepared.spec).from_json(json.loads(str(prepared.spec))) == prepared.spec


def test_images_that_were_made_of_such_contrasts_are_added_to_them(tmp_path: Path) -> None:
    """Files of several contrasts, as `generate` writes them, do not say which modality each is."""
    studies(tmp_path / "data")
    pixels = np.stack([disc((20, 20))[0], disc((20, 20), 1)[0]]).astype(np.int16)
    write(Image(pixels=pixels, bits=16, channels=("ct", "mr"), spacing=(1.0, 1.0)), tmp_path / "made" / "0.nii.gz",
          provenance=FROM)
    settings = contrasts.Settings(path=tmp_path / "data", contrasts=CONTRASTS)
    prepared = prepare(settings, tmp_path / "prepared", overrides=[f"prepare.extra={tmp_path / 'made'}"])
    assert sum(row.added == "other" for row in prepared.rows) == 1 and prepared.spec.kinds == (CT, MR)


def test_ct_that_is_made_of_mr_is_ct(tmp_path: Path) -> None:
    studies(tmp_path / "data")
    prepare(contrasts.Settings(path=tmp_path / "data", contrasts=CONTRASTS), tmp_path / "prepared")
    train(tmp_path / "prepared", tmp_path / "run", settings=resolve(
        {"data": {"kind": "contrasts", "path": "x", "contrasts": list(CONTRASTS)}}, overrides=[
            "task.kind=translate", "task.inputs=[mr]", "task.outputs=[ct]", "train.images=8", "train.batch=4",
            "model.width=4", "model.discriminator_width=4", "train.previews=0"]))
    made = apply(tmp_path / "run", tmp_path / "data" / "P0" / "T1", tmp_path / "out")
    assert made.count == 1
    dataset = pydicom.dcmread(next((tmp_path / "out" / "images").rglob("*.dcm")))
    assert dataset.SOPClassUID.name == "CT Image Storage" and dataset.RescaleType == "HU"
    [image] = read(tmp_path / "out" / "images" / "000000")
    assert (image.modality, image.units) == CT and -1100 < image.pixels.min() < -500
    applier = Applier(tmp_path / "run")
    [given] = read(tmp_path / "data" / "P0" / "CT")
    with pytest.raises(RejectedFile, match="its modality is CT; the run was trained on MR"):
        applier.check(given)


def test_nnunets_channels_say_what_each_is(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    for number, values in enumerate((np.where(disc((20, 20))[0] > 100, 40, -1000), disc((20, 20))[0] / 30)):
        volume = np.stack([values] * 4, -1).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "imagesTr" / f"case_{number:04d}.nii.gz")
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "CT", "1": "PET"}, "labels": {}}')
    [record] = nnunet.records(nnunet.Settings(path=tmp_path, plane="whole"), [])
    assert record.header is not None and record.header.kinds == (CT, ("PT", "stored"))
    assert (record.load().modality, record.load().units) == ("OT", "stored")

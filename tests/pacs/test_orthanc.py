"""Round trips with a real Orthanc (marker pacs), and what it reads in our files."""

from __future__ import annotations

import json
import os
import signal
import socket
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from radsynth import pacs
from radsynth.cli import app
from radsynth.errors import DataError, PacsError
from radsynth.image import RGB, Image
from radsynth.io import Provenance, write
from radsynth.pacs import (
    Storage,
    Web,
)
from radsynth.settings import resolve
from radsynth.verbs.pull import pull
from radsynth.verbs.push import push
from tests.pacs.examples import series
from tests.pacs.orthanc import PASSWORD, Orthanc, ask, asked
from tests.tables import lines

pytest.importorskip("dicomweb_client")
pytest.importorskip("pynetdicom")


@pytest.mark.pacs
def test_push_and_pull_twice_by_dicomweb(orthanc: Orthanc, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = [*series(tmp_path / "made" / "one"), *series(tmp_path / "made" / "two", seed=1)]
    for pushed, present in ((6, 0), (0, 6)):
        done = push(tmp_path / "made", orthanc.web)
        assert (done.found, done.pushed, done.present, done.failed) == (6, pushed, present, 0)
    first = pydicom.dcmread(files[0])
    for pulled, present in ((3, 0), (0, 3)):
        got = pull(orthanc.web, tmp_path / "out", series=first.SeriesInstanceUID)
        assert (got.found, got.pulled, got.present, got.failed) == (3, pulled, present, 0)
    for file in files[:3]:
        sent = pydicom.dcmread(file)
        back = tmp_path / "out" / sent.StudyInstanceUID / sent.SeriesInstanceUID / f"{sent.SOPInstanceUID}.dcm"
        received = pydicom.dcmread(back)
        np.testing.assert_array_equal(received.pixel_array, sent.pixel_array)
        assert received.SyntheticData == "YES" and received.ImagePositionPatient == sent.ImagePositionPatient
    assert [line["result"] for line in lines(got.table)] == ["present"] * 3
    back.unlink()
    assert pull(orthanc.web, tmp_path / "out", study=first.StudyInstanceUID, modality="CT").pulled >= 1
    with pytest.raises(DataError, match="no instance that matches"):
        pull(orthanc.web, tmp_path / "none", modality="MR")
    captured = capfd.readouterr()
    assert PASSWORD not in captured.out + captured.err
    assert all(PASSWORD not in path.read_text() for path in (done.table, got.table))


@pytest.mark.pacs
def test_dates_and_wrong_passwords(orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series(tmp_path / "made")
    for file in (tmp_path / "made").rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.StudyDate = "20200615"
        dataset.save_as(file)
    push(tmp_path / "made", orthanc.web)
    assert pull(orthanc.web, tmp_path / "a", date="20200101-20201231").pulled == 3
    assert pull(orthanc.web, tmp_path / "b", date="20200615").pulled == 3
    with pytest.raises(DataError, match="no instance"):
        pull(orthanc.web, tmp_path / "c", date="20210101-")
    with pytest.raises(PacsError, match="cannot be searched"):
        pull(orthanc.web.replace("dicom-web", "wrong"), tmp_path / "c", modality="CT")
    monkeypatch.setenv(pacs.PASSWORD, "wr0ng-s3cret")
    with pytest.raises(PacsError, match="HTTP 401") as raised:
        pull(orthanc.web, tmp_path / "c", modality="CT")
    assert "wr0ng-s3cret" not in str(raised.value)
    with pytest.raises(PacsError, match="HTTP 401"):
        push(tmp_path / "made", orthanc.web)


@pytest.mark.pacs
def test_push_by_c_store_and_wrong_titles(orthanc: Orthanc, tmp_path: Path) -> None:
    files = series(tmp_path / "made")
    target = f"ORTHANC@127.0.0.1:{orthanc.dicom}"
    for pushed, present in ((3, 0), (0, 3)):
        done = push(tmp_path / "made", target)
        assert (done.pushed, done.present, done.failed) == (pushed, present, 0)
    got = pull(orthanc.web, tmp_path / "out", series=pydicom.dcmread(files[0]).SeriesInstanceUID)
    assert got.pulled == 3
    (tmp_path / "made" / "push.csv").unlink()
    with Storage(target, "RADSYNTH", [(pydicom.uid.CTImageStorage, pydicom.uid.ExplicitVRLittleEndian)]) as storage:
        assert storage._link.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # else half as fast
    with pytest.raises(PacsError, match="is not called WRONG"):
        push(tmp_path / "made", f"WRONG@127.0.0.1:{orthanc.dicom}")
    with pytest.raises(PacsError, match=r"AE\s+title"):
        push(tmp_path / "made", target, calling="STRANGER")


@pytest.mark.pacs
def test_a_refused_instance_costs_itself_alone(orthanc: Orthanc, tmp_path: Path) -> None:
    files = series(tmp_path / "made")
    dataset = pydicom.dcmread(files[1])
    dataset.PatientID = ""
    del dataset.PatientID, dataset.SOPClassUID
    dataset.SOPClassUID = "1.2.3.4"
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.3.4"
    dataset.save_as(files[1])
    done = push(tmp_path / "made", f"ORTHANC@127.0.0.1:{orthanc.dicom}")
    assert (done.pushed, done.failed) == (2, 1) and len(done.failures) == 1
    assert [line["result"] for line in lines(done.table)].count("failed") == 1


@pytest.mark.pacs
def test_a_pacs_that_stops_in_between_is_gone_on_with(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "made")
    store, sent = Web.store, 0

    def stop_after_one(self: Web, dataset: Any) -> None:
        nonlocal sent
        if sent == 1:
            orthanc.stop()
        store(self, dataset)
        sent += 1

    with monkeypatch.context() as patch:
        patch.setattr(Web, "store", stop_after_one)
        with pytest.raises(PacsError, match="does not answer"):
            push(tmp_path / "made", orthanc.web)
    assert [line["result"] for line in lines(tmp_path / "made" / "push.csv")] == ["pushed"]
    orthanc.start()
    done = push(tmp_path / "made", orthanc.web)
    assert (done.pushed, done.present) == (2, 1)


@pytest.mark.pacs
def test_pull_train_generate_push_and_read_back(orthanc: Orthanc, tmp_path: Path) -> None:
    import radsynth

    for number in range(8):
        series(tmp_path / "made" / str(number), seed=number)
    push(tmp_path / "made", orthanc.web)
    assert pull(orthanc.web, tmp_path / "scans", modality="CT").pulled == 24
    given = {"data": {"kind": "folder", "path": str(tmp_path / "scans")}, "prepare": {"size": [16, 16]}}
    words = ("model.kind=dcgan", "model.width=8", "train.batch=8", "train.images=64", "train.previews=0")
    settings = resolve(given, overrides=words)
    prepared = radsynth.prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1)
    radsynth.train(prepared.folder, tmp_path / "run", settings=settings)
    radsynth.generate(tmp_path / "run", tmp_path / "synthetic", count=3)
    done = push(tmp_path / "synthetic", f"ORTHANC@127.0.0.1:{orthanc.dicom}")
    assert (done.pushed, done.failed) == (3, 0)
    sent = [pydicom.dcmread(path) for path in sorted((tmp_path / "synthetic").rglob("*.dcm"))]
    known = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "scans").rglob("*.dcm")}
    for dataset in sent:
        pull(orthanc.web, tmp_path / "back", study=dataset.StudyInstanceUID)
        name = f"{dataset.StudyInstanceUID}/{dataset.SeriesInstanceUID}/{dataset.SOPInstanceUID}.dcm"
        back = pydicom.dcmread(tmp_path / "back" / name)
        np.testing.assert_array_equal(back.pixel_array, dataset.pixel_array)
        assert back.SyntheticData == "YES" and back.Modality == "CT" and back.SOPInstanceUID not in known


@pytest.mark.pacs
def test_the_command_line_tells_of_failures_by_its_exit_code(orthanc: Orthanc, tmp_path: Path) -> None:
    series(tmp_path / "made")
    runner = CliRunner()
    result = runner.invoke(app, ["push", str(tmp_path / "made"), orthanc.web, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["pushed"] == 3
    result = runner.invoke(app, ["pull", orthanc.web, str(tmp_path / "out"), "--modality", "CT", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["pulled"] == 3
    assert os.listdir(tmp_path / "out")


@pytest.mark.pacs
@pytest.mark.parametrize("orthanc", ["encrypted"], indirect=True)
def test_push_by_c_store_with_tls(orthanc: Orthanc, tmp_path: Path) -> None:
    series(tmp_path / "one")
    target, ca = f"ORTHANC@127.0.0.1:{orthanc.dicom}", str(tmp_path / "ca.pem")
    with pytest.raises(PacsError, match="Does it want --tls"):
        push(tmp_path / "one", target)
    with pytest.raises(PacsError, match="no trusted connection"):
        push(tmp_path / "one", target, tls=True)
    with pytest.raises(PacsError, match="--certificate FILE"):
        push(tmp_path / "one", target, ca=ca)
    assert push(tmp_path / "one", target, ca=ca, certificate=str(tmp_path / "client.pem")).pushed == 3
    assert pull(orthanc.web, tmp_path / "out", modality="CT").pulled == 3


@pytest.mark.pacs
def test_c_store_that_breaks_in_between_is_gone_on_with(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "made")
    target = f"ORTHANC@127.0.0.1:{orthanc.dicom}"
    store, sent = Storage.store, 0

    def stop_after_one(self: Storage, dataset: Any) -> None:
        nonlocal sent
        if sent == 1:
            orthanc.stop(signal.SIGKILL)
        store(self, dataset)
        sent += 1

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "store", stop_after_one)
        with pytest.raises(PacsError, match="goes on from here"):
            push(tmp_path / "made", target)
    assert [line["result"] for line in lines(tmp_path / "made" / "push.csv")] == ["pushed"]
    orthanc.start()
    done = push(tmp_path / "made", target)
    assert (done.pushed, done.present) == (2, 1)


def synthetic(kind: str) -> Image:
    """An image of every storage class that is written, with a place in the patient where it has one."""
    rng, affine = np.random.default_rng(0), np.eye(4)
    affine[:3, :3] = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]) * [0.5, 0.7, 2.5]  # leaning in its plane
    affine[:3, 3] = (-12.25, 40.5, -300)
    deep = rng.integers(0, 4096, (1, 5, 14, 12)).astype(np.uint16)
    placed = {"spacing": (2.5, 0.7, 0.5), "affine": affine, "bits": 12}
    return {
        "CT": Image(pixels=deep.astype(np.int16) - 1024, modality="CT", units="HU", **placed),
        "MR": Image(pixels=deep, modality="MR", **placed),
        "SC": Image(pixels=deep, modality="OT", **placed),
        "DX": Image(pixels=deep[:, 0], modality="DX", bits=12, spacing=(0.2, 0.1)),
        "CR": Image(pixels=deep[:, 0], modality="CR", bits=12, spacing=(0.2, 0.1)),
        "US": Image(pixels=rng.integers(0, 256, (3, 14, 12)).astype(np.uint8), modality="US", channels=RGB),
    }[kind]


@pytest.mark.pacs
def test_orthanc_reads_the_same_values_at_the_same_places(orthanc: Orthanc, tmp_path: Path) -> None:
    """Orthanc's own decoder and its own order of slices, asked by its REST interface."""
    for index, kind in enumerate(("CT", "MR", "SC", "DX", "CR", "US")):
        image = synthetic(kind)
        origin = Provenance(model="example", weights="00", seed=7, index=index)
        files = write(image, tmp_path / "made" / f"{kind}.dcm", provenance=origin, format="dicom")
        push(tmp_path / "made", orthanc.web)
        uid = pydicom.dcmread(files[0]).SeriesInstanceUID
        [series_id] = [found["ID"] for found in ask(orthanc, "tools/lookup", uid)]
        order = [path.split("/")[2] for path in ask(orthanc, f"series/{series_id}/ordered-slices").get("Dicom", [])]
        order = order or ask(orthanc, f"series/{series_id}")["Instances"]
        assert len(order) == len(files), kind
        for number, instance in enumerate(order):
            check_instance(orthanc, instance, image, number)


def check_instance(orthanc: Orthanc, instance: str, image: Image, number: int) -> None:
    """Slice `number` of the image as Orthanc sees it."""
    values = np.load(BytesIO(asked(orthanc, f"instances/{instance}/numpy?rescale=1")))[0]
    mine = image.pixels if image.pixels.ndim == 3 else image.pixels[:, number]
    assert np.array_equal(np.moveaxis(values, -1, 0), mine), image.modality
    tags = ask(orthanc, f"instances/{instance}/simplified-tags")
    assert tags["Modality"] == image.modality
    assert asked(orthanc, f"instances/{instance}/content/0008-001c").strip() == b"YES"  # newer than its dictionary
    if image.spacing is not None:
        assert numbers(tags["PixelSpacing"]) == pytest.approx(image.spacing[-2:])
    if image.affine is not None:
        place = image.affine @ [0, 0, number, 1]
        assert numbers(tags["ImagePositionPatient"]) == pytest.approx(place[:3])
        across, down = image.affine[:3, 0] / 0.5, image.affine[:3, 1] / 0.7
        assert numbers(tags["ImageOrientationPatient"]) == pytest.approx([*across, *down])


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]

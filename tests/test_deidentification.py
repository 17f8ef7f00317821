"""Nothing of the sources travels: no name, number, date, identifier or text of a source is in a run or an export.

Every format that is read gets files full of texts that occur nowhere else: in headers, private elements, comments, file
and folder names. Then whole runs are made, exported in every format and searched, byte by byte.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, PngImagePlugin
from PIL import Image as Pillow

import radsynth
from radsynth.settings import resolve

IMAGES = 76
"""Enough that 50 are held out: every number is measured, and the closest copies are kept as pictures."""
EXPORTS = ("dicom", "nifti", "metaimage", "picture", "npz")
SMALL = ("prepare.size=[16,16]", "prepare.train=0.3", "prepare.validation=0", "train.images=32", "train.batch=8",
         "train.previews=1", "model.kind=mlp", "generate.count=60", "evaluate.images=50", "evaluate.repetitions=10")
FOLDER = "Zkmustermann"
NAMES = ("zkmustermann", "zkwardname", "zkfilename", "zkbroken")
"""What names of files and folders hold: these may stand in the prepared folder's rejected.csv, and nowhere else."""
HEADERS = ("zkpatient", "zkidnumber", "zkprivate", "zkplacename", "zkfreetext", "19610423", "1961-04-23",
           "1961:04:23", "23.04.1961", "042342.771177", "1.2.826.0.1.77777")
"""What headers hold: names, numbers, private elements, places, free texts, a date, a time and the root of all UIDs."""


def pixels(number: int, shape: tuple[int, ...] = (16, 16)) -> NDArray[np.uint8]:
    """A bright disc on noise, another for every number."""
    generator = np.random.default_rng(number)
    rows, columns = np.mgrid[:shape[-2], :shape[-1]]
    centre = generator.uniform(0.35, 0.65, 2) * shape[-2:]
    disc = np.hypot(rows - centre[0], columns - centre[1]) < generator.uniform(3, 6)
    return np.asarray(generator.integers(5, 60, shape) + 150 * disc, np.uint8)


def dicom(path: Path, number: int, slices: int = 1) -> None:
    """A folder with one MR series, a text in everything that can hold one."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = "ZKPLACENAME"
    for position in range(slices):
        uid = f"1.2.826.0.1.77777.{number}"
        meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(f"{uid}.4.{position}")
        dataset = pydicom.Dataset()
        dataset.file_meta, dataset.preamble = meta, b"ZKFREETEXT preamble".ljust(128, b"\0")
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, f"{uid}.4.{position}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = uid, f"{uid}.2", f"{uid}.3"
        dataset.PatientName, dataset.PatientID = f"Zkpatient^N{number}", f"ZKIDNUMBER{number:05d}"
        dataset.AccessionNumber = dataset.StudyID = dataset.DeviceSerialNumber = f"ZKIDNUMBER{number}"
        dataset.PatientBirthDate = dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = "19610423"
        dataset.StudyTime = dataset.ContentTime = "042342.771177"
        dataset.InstitutionName = dataset.StationName = dataset.InstitutionAddress = "Zkplacename"
        dataset.ReferringPhysicianName = dataset.OperatorsName = "Zkpatient^Doctor"
        dataset.SeriesDescription = dataset.StudyDescription = dataset.ProtocolName = "Zkfreetext"
        dataset.ImageComments = dataset.Manufacturer = dataset.BodyPartExamined = "ZKFREETEXT"
        dataset.private_block(0x0011, "ZKPRIVATE", create=True).add_new(1, "LO", f"Zkprivate {number}")
        step = pydicom.Dataset()
        step.RequestedProcedureDescription, step.ScheduledProcedureStepID = "Zkfreetext", f"ZKIDNUMBER{number}"
        dataset.RequestAttributesSequence = [step]
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 1, position + 1
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 4.0 * position], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [1.5, 1.5], 4.0
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        stored = 8 * pixels(100 * number + position).astype("<u2")
        dataset.Rows, dataset.Columns, dataset.PixelData = *stored.shape, stored.tobytes()
        path.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path / f"Zkfilename{position}.dcm", enforce_file_format=True)


def dicom_volume(path: Path, number: int) -> None:
    dicom(path, number, slices=4)


def nifti(path: Path, number: int) -> None:
    image = nibabel.Nifti1Image(np.stack([pixels(10 * number + i) for i in range(4)], axis=2), np.diag([1, 1, 5, 1]))
    image.header["descrip"], image.header["aux_file"] = b"Zkfreetext of Zkpatient 1961-04-23", b"Zkfilename.txt"
    image.header["intent_name"], image.header["db_name"] = b"Zkfreetext", b"ZKIDNUMBER00001"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Zkprivate, Zkpatient"))
    path.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path / "Zkfilename.nii.gz")


def metaimage(path: Path, number: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "Zkfilename.raw").write_bytes(np.stack([pixels(10 * number + i) for i in range(4)]).tobytes())
    lines = {"ObjectType": "Image", "NDims": 3, "Comment": "Zkfreetext of Zkpatient", "AcquisitionDate": "1961-04-23",
             "PatientName": f"Zkpatient {number}", "PatientID": f"ZKIDNUMBER{number}", "DimSize": "16 16 4",
             "ElementSpacing": "1 1 5", "ElementType": "MET_UCHAR", "ElementDataFile": "Zkfilename.raw"}
    (path / "Zkfilename.mhd").write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))


def nrrd(path: Path, number: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    head = ("NRRD0004\n# Zkfreetext of Zkpatient\ntype: uint8\ndimension: 3\nsizes: 16 16 4\nencoding: raw\n"
            "content: Zkfreetext 1961-04-23\nspace: left-posterior-superior\nspace origin: (0,0,0)\n"
            "space directions: (1,0,0) (0,1,0) (0,0,5)\nPatientName:=Zkpatient\nPatientID:=ZKIDNUMBER\n\n")
    stored = np.stack([pixels(10 * number + i) for i in range(4)])
    (path / "Zkfilename.nrrd").write_bytes(head.encode() + stored.tobytes())


def png(path: Path, number: int) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", f"Zkpatient {number}")
    texts.add_text("Comment", "Zkfreetext, born 1961-04-23", zip=True)
    texts.add_itxt("Title", "ZKIDNUMBER00001", zip=True)
    path.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels(number)).save(path / "Zkfilename.png", pnginfo=texts, exif=_exif())


def jpeg(path: Path, number: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels(number)).save(path / "Zkfilename.jpg", exif=_exif(), comment=b"Zkfreetext of Zkpatient")


def tiff(path: Path, number: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(257 * pixels(number).astype(np.uint16)).save(path / "Zkfilename.tiff", exif=_exif())


def _exif() -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[ExifTags.Base.ImageDescription], exif[ExifTags.Base.Artist] = "Zkfreetext of ZKIDNUMBER00001", "Zkpatient"
    exif[ExifTags.Base.DateTime], exif[ExifTags.Base.HostComputer] = "1961:04:23 04:23:42", "Zkplacename"
    return exif


def npz(path: Path, number: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path / "Zkfilename.npz", image=pixels(number), patient=np.asarray(f"Zkpatient {number}"),
                        zkprivate=np.asarray(["ZKIDNUMBER00001", "1961-04-23"]))


FORMATS: dict[str, Callable[[Path, int], None]] = {
    "dicom": dicom, "dicom_volume": dicom_volume, "nifti": nifti, "metaimage": metaimage, "nrrd": nrrd, "png": png,
    "jpeg": jpeg, "tiff": tiff, "npz": npz}


VOLUMES = (dicom_volume, nifti, metaimage, nrrd)


def source(root: Path, make: Callable[[Path, int], None]) -> Path:
    """A folder of one format, with a patient a folder, a broken file, a copy under another name, and a text."""
    folder = root / f"{FOLDER}_Anna"
    for number in range(IMAGES // 2 if make in VOLUMES else IMAGES):
        make(folder / f"Zkwardname_{number % 5}" / f"patient{number:03d}_Zkmustermann", number)
    make(folder / "Zkwardname_9" / "patient900_Zkfilename_copy", 0)
    (folder / "Zkbroken.dcm").write_bytes(b"\0" * 128 + b"DICMxx Zkpatient")
    (folder / "Zkbroken.png").write_bytes(b"GIF89a Zkpatient")
    (folder / "Zkfilename.txt").write_text("Zkfreetext of Zkpatient")
    return folder


def label_table(folder: Path, place: Path) -> Path:
    """A table with a name in the name of every patient, and in its own."""
    lines = [f"{path.relative_to(folder).as_posix()},{'ill' if number % 2 else 'well'},Zkpatient {number}"
             for number, path in enumerate(sorted(folder.rglob("patient*/*.png")))]
    (place / "Zkmustermann.csv").write_text("\n".join(["file,label,patient", *lines]) + "\n")
    return place / "Zkmustermann.csv"


def layers(content: bytes, depth: int = 4) -> Iterator[bytes]:
    """The bytes, and whatever is compressed or encoded in them: zip, gzip, zlib (PNG, TIFF, MetaImage), base64, hex."""
    yield content
    if not depth:
        return
    inner: list[bytes] = []
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inner += [archive.read(name) for name in archive.namelist()]
    elif content.startswith(b"\x1f\x8b\x08"):
        inner.append(gzip.decompress(content))
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content):
        try:
            inner.append(zlib.decompressobj().decompress(content[match.start():], 2**24))
        except zlib.error:
            continue  # these two bytes began no compressed part
    inner += [base64.b64decode(match[0] + b"=" * (-len(match[0]) % 4))
              for match in re.finditer(rb"[A-Za-z0-9+/]{24,}", content) if len(match[0]) % 4 != 1]
    inner += [bytes.fromhex(match[0].decode()) for match in re.finditer(rb"(?:[0-9A-Fa-f]{2}){4,}", content)]
    for found in inner:
        if found:
            yield from layers(found, depth - 1)


def spellings(token: str) -> tuple[bytes, ...]:
    """How a token may stand in a file whose letters were made small."""
    return tuple(token.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"))


def tokens_in(content: bytes, tokens: tuple[str, ...]) -> set[str]:
    """Those of the tokens that are in the bytes, in any layer and spelling, in capitals or not."""
    small = [layer.lower() for layer in layers(content)]
    return {token for token in tokens if any(text in layer for layer in small for text in spellings(token))}


def leaks(*folders: Path) -> dict[str, set[str]]:
    """Every file below the folders whose content or name holds a token. Prepared data's rejected.csv may name files."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            tokens = HEADERS if name == "data/rejected.csv" else HEADERS + NAMES
            here = tokens_in(name.encode(), HEADERS + NAMES)
            here |= tokens_in(path.read_bytes(), tokens) if path.is_file() else set()
            if here:
                found[f"{folder.name[:9]}/{name}"] = here
    return found


def export_everything(run: Path, folder: Path) -> None:
    for format in EXPORTS:
        radsynth.generate(run, folder / format, count=3, format=format)
    radsynth.generate(run, folder / "many", count=60)
    radsynth.evaluate(run, folder / "many", out=folder / "measured", settings=resolve(
        overrides=["evaluate.images=50"]).section("evaluate"))


def make_run(data: Path, root: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    """A whole run as `radsynth run DATA` makes it: the folder gets its default name, runs/NAME OF DATA."""
    monkeypatch.chdir(root)
    return radsynth.run(data, overrides=[*SMALL, *more]).run.absolute()


@pytest.mark.parametrize("form", [
    "Zkpatient", "born 19610423", "zKPATIENt", "Zkpatient".encode("utf-16-le"), "xZkpatient".encode("utf-16-be"),
    gzip.compress(b"Zkpatient", mtime=0), b"IDAT" + zlib.compress(b"a Zkpatient b"),
    base64.b64encode(b"12 Zkpatient was here"),
    b"data:image/png;base64," + base64.b64encode(b"x" * 8 + zlib.compress(b"Zkpatient was here")),
    b"Zkpatient".hex().encode(), "Zkpatient".encode("utf-32-le"),
])  # fmt: skip
def test_the_search_finds_what_is_there(form: str | bytes) -> None:
    content = form.encode() if isinstance(form, str) else form
    assert tokens_in(b"before " * 3 + content if not content.startswith(b"\x1f") else content, HEADERS)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", content)
    assert tokens_in(packed.getvalue(), HEADERS)
    assert not tokens_in(b"Synthetic image 3", HEADERS + NAMES)


@pytest.mark.parametrize("name", FORMATS)
def test_the_sources_are_full_of_what_must_not_travel(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / "patient1", 1)
    found = set().union(*(tokens_in(path.read_bytes(), HEADERS) for path in tmp_path.rglob("*") if path.is_file()))
    assert len(found) >= 2, found


FAST = ("dicom", "png")


@pytest.mark.parametrize("name", [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FORMATS])
def test_nothing_of_the_sources_is_in_a_run_or_an_export(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in ("metaimage", "nrrd"):
        pytest.importorskip("SimpleITK")
    data = source(tmp_path, FORMATS[name])
    labels = label_table(data, tmp_path) if name == "png" else "none"
    run = make_run(data, tmp_path, monkeypatch, f"data.labels={labels}")
    assert run.name.lower().startswith(FOLDER.lower()), "the folder's own name is the user's choice; it is in no file"
    export_everything(run, tmp_path / "exports")
    radsynth.report(run)
    assert (run / "pictures" / "neighbours.npy").exists(), "all that a report can hold is in this one"
    assert leaks(run, tmp_path / "exports") == {}
    with (run / "data" / "rejected.csv").open(encoding="utf-8", newline="") as file:
        assert any("Zkbroken" in row["path"] for row in csv.DictReader(file)), "the user is told which files"

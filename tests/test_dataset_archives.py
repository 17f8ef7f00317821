"""Data sets in the archives that they are distributed in: found, unpacked safely, the same as unpacked by hand."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.datasets import Record, Rejected, _archives, brats, folder, lidc, luna16, nnunet, recognise
from radsynth.datasets._archives import find_folders, listed, opened
from radsynth.errors import DataError
from radsynth.settings import resolve
from radsynth.verbs.prepare import prepare


def zipped(folder: Path, target: Path, *, inside: str = "") -> None:
    """The files below `folder`, named below its parent (or below `inside`)."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file():
                archive.write(path, inside + path.relative_to(folder.parent).as_posix())


def tarred(folder: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz" if target.name.endswith("gz") else "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)


def contents(module: ModuleType, path: Path) -> tuple[list[Record], list[str]]:
    rejected: list[Rejected] = []
    return list(module.records(module.Settings(path=path), rejected)), [line.reason for line in rejected]


def same(one: list[Record], other: list[Record]) -> None:
    assert len(one) == len(other) > 0
    for first, second in zip(one, other, strict=True):
        assert (first.label, first.patient) == (second.label, second.patient)
        assert first.source.split("/")[-1] == second.source.split("/")[-1]
        image, again = first.load(), second.load()
        np.testing.assert_array_equal(image.pixels, again.pixels)
        if image.mask is not None:
            assert again.mask is not None
            np.testing.assert_array_equal(image.mask, again.mask)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    (tmp_path / "plain").mkdir()
    return tmp_path / "plain"


def test_luna16_as_it_is_downloaded(plain: Path, tmp_path: Path) -> None:
    """subset0.zip, subset1.zip, candidates_V2.zip, seg-lungs-LUNA16.zip and annotations.csv side by side."""
    pytest.importorskip("SimpleITK")
    luna16.example(plain)
    packed = tmp_path / "luna"
    packed.mkdir()
    for name in ("subset0", "subset1", "seg-lungs-LUNA16"):
        zipped(plain / name, packed / f"{name}.zip")
    zipped(plain / "candidates_V2.csv", packed / "candidates_V2.zip")
    shutil.copy(plain / "annotations.csv", packed)
    assert recognise(packed) == "luna16"
    for what in ("slices", "patches"):
        same(
            list(luna16.records(luna16.Settings(path=plain, what=what), [])),
            list(luna16.records(luna16.Settings(path=packed, what=what), [])),
        )


def test_luna16_in_folders_of_folders_and_twice(plain: Path, tmp_path: Path) -> None:
    """subset0/subset0/, as some programs unpack; a copy of a scan in another subset is used once."""
    pytest.importorskip("SimpleITK")
    luna16.example(plain)
    nested = tmp_path / "nested"
    for name in ("subset0", "subset1", "seg-lungs-LUNA16"):
        shutil.copytree(plain / name, nested / name / name)
    for name in ("annotations.csv", "candidates_V2.csv"):
        (nested / "CSVFILES" / "CSVFILES").mkdir(parents=True, exist_ok=True)
        shutil.copy(plain / name, nested / "CSVFILES" / "CSVFILES")
    assert recognise(nested) == "luna16"
    same(contents(luna16, plain)[0], contents(luna16, nested)[0])
    shutil.copytree(plain / "subset0", nested / "subset2")
    records, reasons = contents(luna16, nested)
    assert len(records) == len(contents(luna16, plain)[0]) and reasons.count("it is a second copy of a scan") == 2


def test_lidc_as_the_retriever_writes_it(plain: Path, tmp_path: Path) -> None:
    """manifest-.../LIDC-IDRI/LIDC-IDRI-0001/... and the XML files in the zip that TCIA gives."""
    lidc.example(plain)
    root = tmp_path / "download"
    shutil.copytree(plain, root / "manifest-1600709154662" / "LIDC-IDRI")
    assert recognise(root) == "lidc"
    same(contents(lidc, plain)[0], contents(lidc, root)[0])
    readings = tmp_path / "tcia-lidc-xml"
    for number, path in enumerate(sorted(root.rglob("*.xml"))):
        (readings / "157").mkdir(parents=True, exist_ok=True)
        shutil.move(path, readings / "157" / f"{number}.xml")
    zipped(readings, root / "LIDC-XML-only.zip")
    assert recognise(root) == "lidc"
    same(contents(lidc, plain)[0], contents(lidc, root)[0])


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_whole_archives(ending: str, plain: Path, tmp_path: Path) -> None:
    for module in (brats, lidc):
        folder = plain / module.__name__.rpartition(".")[2]
        folder.mkdir()
        module.example(folder)
        archive = tmp_path / f"{folder.name}.{ending}"
        if ending == "zip":
            zipped(folder, archive)
        else:
            tarred(folder, archive)
        assert recognise(archive) == folder.name
        same(contents(module, folder)[0], contents(module, archive)[0])


def test_brats_archives_beside_each_other(plain: Path, tmp_path: Path) -> None:
    brats.example(plain)
    packed = tmp_path / "packed"
    packed.mkdir()
    for number, grade in enumerate(("HGG", "LGG")):
        zipped(plain / grade, packed / f"Part{number}.zip", inside="MICCAI_BraTS_2018_Data_Training/")
    assert recognise(packed) == "brats"
    same(contents(brats, plain)[0], contents(brats, packed)[0])


def test_the_names_in_a_compressed_archive_are_read_once(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every kind of data set asks for them, and reading gigabytes takes minutes."""
    nnunet.example(plain)
    tarred(plain, tmp_path / "all.tar.gz")
    reading, times = _archives.track, list[str]()
    monkeypatch.setattr(_archives, "track", lambda *of, label, **more: [
        times.append(label), reading(*of, label=label, **more)][1])
    assert recognise(tmp_path / "all.tar.gz") == "nnunet"
    assert times == ["looking into all.tar.gz"] and times[0] in capsys.readouterr().err


def test_an_archive_beside_its_own_folder_was_unpacked_before(plain: Path) -> None:
    brats.example(plain)
    zipped(plain / "HGG", plain / "HGG.zip")
    assert opened(plain, []) == plain and not list(listed(plain))
    assert len({record.patient for record in contents(brats, plain)[0]}) == 3


@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_a_folder_with_fewer_files_than_its_archive_is_told(plain: Path, ending: str) -> None:
    """Unpacking that was stopped leaves a smaller data set, of which nothing else tells."""
    brats.example(plain)
    (zipped if ending == "zip" else tarred)(plain / "HGG", plain / f"HGG.{ending}")
    assert not contents(brats, plain)[1]
    shutil.rmtree(next((plain / "HGG").iterdir()))
    whole, reasons = contents(brats, plain)
    assert len({record.patient for record in whole}) == 2
    assert reasons == ["an archive of 10 files beside a folder of its name with 5: if unpacking stopped half way, "
                       "unpack it again"]
    rejected: list[Rejected] = []
    list(folder.records(folder.Settings(path=plain), rejected))
    assert {line.path: line.reason for line in rejected}[f"HGG.{ending}"] == reasons[0]


def test_an_archive_that_was_cut_short_is_an_error(plain: Path) -> None:
    brats.example(plain)
    zipped(plain / "LGG", plain / "more.zip")
    (plain / "more.zip").write_bytes((plain / "more.zip").read_bytes()[:1000])
    assert recognise(plain) == "brats"
    with pytest.raises(DataError, match=r"more\.zip cannot be opened as the archive"):
        contents(brats, plain)
    (plain / "more").mkdir()
    assert contents(brats, plain)[0]


def test_an_archive_gives_the_same_prepared_folder_twice(plain: Path, tmp_path: Path) -> None:
    """Unpacked files have the archive's time, so that a second process finds what the first one did."""
    brats.example(plain)
    zipped(plain, tmp_path / "brats.zip")
    settings = resolve(
        {"data": {"kind": "brats", "path": str(tmp_path / "brats.zip")}, "prepare": {"size": [16, 16]}},
        sections=["data", "prepare"],
    )

    def made() -> Prepared:
        return prepare(settings.section("data"), tmp_path / "out", settings=settings, workers=1)

    first = made()
    opened(tmp_path / "brats.zip", []).rename(tmp_path / "gone")
    os.utime(tmp_path / "brats.zip", ns=(1, (tmp_path / "brats.zip").stat().st_mtime_ns))
    from radsynth.datasets import _archives

    _archives._unpack.cache_clear()
    assert made().manifest == first.manifest


@pytest.mark.parametrize("wrap", [lambda path: path, lambda path: path.parent])
def test_an_archive_that_climbs_out_is_refused(wrap: Callable[[Path], Path], plain: Path, tmp_path: Path) -> None:
    brats.example(plain)
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data" / "cases.zip"
    zipped(plain, archive)
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("../../evil", "x")
    with pytest.raises(DataError, match="would be written outside"):
        contents(brats, wrap(archive))
    assert not list(tmp_path.rglob("evil"))


def test_the_target_of_radiotherapy_is_the_mask(tmp_path: Path) -> None:
    """BraTS-MEN-RT of 2024: one modality, and the target's outline as the mask."""
    for number in range(3):
        case = tmp_path / "BraTS-MEN-RT-Train-v2" / f"BraTS-MEN-RT-000{number}-1"
        case.mkdir(parents=True)
        values = np.random.default_rng(number).integers(50, 500, (20, 24, 4)).astype(np.int16)
        mask = np.zeros((20, 24, 4), np.uint8)
        mask[8:12, 8:12, 2] = 1
        for name, array in (("t1c", values), ("gtv", mask)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), case / f"{case.name}_{name}.nii.gz")
    assert recognise(tmp_path) == "brats"
    records, reasons = contents(brats, tmp_path)
    assert not records and all("data.modalities=[t1ce]" in reason for reason in reasons)
    settings = brats.Settings(path=tmp_path, modalities=("t1ce",), what="volumes")
    found = list(brats.records(settings, []))
    assert [record.patient for record in found] == [f"brats-men-rt-000{number}" for number in range(3)]
    mask_found = found[0].load().mask
    assert mask_found is not None and mask_found.sum() == 16


def test_wide_trees_are_searched_only_a_little(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}" / "inner").mkdir(parents=True)
    assert len(find_folders(tmp_path, lambda folder: folder.name == "inner")) == 16

"""BraTS: every year's names, channels in one order, labels 1 2 3, visits of a patient; a bad case costs itself."""

from __future__ import annotations

import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radsynth.datasets import EmptySlice, Record, Rejected, recognise
from radsynth.datasets.brats import Settings, example, records
from radsynth.errors import DataError, RejectedFile

OLD = ("t1", "t1ce", "t2", "flair")
NEW = ("t1n", "t1c", "t2w", "t2f")


def found(settings: Settings) -> tuple[list[Record], list[Rejected]]:
    rejected: list[Rejected] = []
    return list(records(settings, rejected)), rejected


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1, 1, 1]) if affine is None else affine), path)


def write_case(folder: Path, names: tuple[str, ...], separator: str, ending: str, top: int) -> None:
    """Values that tell modality and place: 1000 for each modality and 100 x column + 10 x row + slice."""
    column, row, depth = np.meshgrid(*map(np.arange, (6, 7, 3)), indexing="ij")
    for number, name in enumerate(names):
        values = (1000 * (number + 1) + 100 * column + 10 * row + depth).astype(np.int16)
        save(folder / f"{folder.name}{separator}{name}.{ending}", values)
    mask = np.zeros((6, 7, 3), np.uint8)
    mask[2, 3, 1], mask[3, 3, 1], mask[4, 3, 1] = 1, 2, top
    save(folder / f"{folder.name}{separator}seg.{ending}", mask)


YEARS = [
    ("MICCAI_BraTS_2018_Data_Training/HGG/Brats18_CBICA_AAB_1", OLD, "_", "nii.gz", 4, "brats18_cbica_aab"),
    ("HGG/BraTS19_TMC_06290_1", OLD, "_", "nii.gz", 4, "brats19_tmc_06290"),
    ("BraTS20_Training_001", OLD, "_", "nii", 4, "brats20_training_001"),
    ("BraTS2021_00000", OLD, "_", "nii.gz", 4, "brats2021_00000"),
    ("train/BraTS-GLI-00000-000", NEW, "-", "nii.gz", 3, "brats-gli-00000"),
    ("BraTS-MET-00086-000", NEW, "-", "nii.gz", 3, "brats-met-00086"),
]


@pytest.mark.parametrize(("name", "modalities", "separator", "ending", "top", "patient"), YEARS)
def test_every_year_gives_the_same_channels_and_labels(
    tmp_path: Path, name: str, modalities: tuple[str, ...], separator: str, ending: str, top: int, patient: str
) -> None:
    write_case(tmp_path / "data" / name, modalities, separator, ending, top)
    assert recognise(tmp_path / "data") == "brats"
    (record,), rejected = found(Settings(path=tmp_path / "data", what="volumes"))
    image = pickle.loads(pickle.dumps(record.load))()
    assert not rejected and record.patient == patient
    assert image.channels == OLD and image.pixels.shape == (4, 3, 7, 6) and image.modality == "MR"
    np.testing.assert_array_equal(image.pixels[:, 2, 3, 4], [1432, 2432, 3432, 4432])
    assert image.mask is not None and list(image.mask[1, 3]) == [0, 0, 1, 2, 3, 0]


def test_slices_carry_channels_mask_and_grade(tmp_path: Path) -> None:
    settings = example(tmp_path)
    every, rejected = found(settings)
    assert not rejected and len(every) == 15
    assert [every[0].label, every[-1].label] == ["HGG", "LGG"]
    image = every[2].load()
    stored = np.asarray(nibabel.load(tmp_path / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_t2.nii.gz").dataobj)
    np.testing.assert_array_equal(image.pixels[2], stored[:, :, 2].T)
    assert image.mask is not None and set(np.unique(image.mask)) == {0, 1, 2, 3} and image.mask[9, 8] == 1
    mask = every[1].load().mask
    assert mask is not None and not mask.any()


def test_the_fourth_label_of_2024_stays(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS-GLI-02062-100", NEW, "-", "nii.gz", 4)
    (record,), _ = found(Settings(path=tmp_path, what="volumes"))
    mask = record.load().mask
    assert mask is not None and list(mask[1, 3]) == [0, 0, 1, 2, 4, 0]


@pytest.mark.parametrize(("cases", "names"), [
    (("BraTS-MEN-00004-000", "BraTS-GLI-00005-000"), {1: "necrosis", 2: "oedema", 3: "enhancing tumour",
                                                      4: "cavity of an operation"}),
    (("BraTS-MEN-RT-0001-1", "BraTS-MEN-RT-0002-1"), {1: "gross tumour volume"}),
    (("BraTS-PED-00001-000",), {}),
    (("BraTS-MEN-RT-0001-1", "BraTS-MEN-00004-000"), {}),
])
def test_label_values_are_named_only_where_they_mean_that(
    cases: tuple[str, ...], names: dict[int, str], tmp_path: Path
) -> None:
    for case in cases:
        write_case(tmp_path / case, NEW, "-", "nii.gz", 3)
    every, _ = found(Settings(path=tmp_path, what="volumes"))
    assert len(every) == len(cases) and all(record.mask_names == names for record in every)


def test_labels_of_another_year_are_told(tmp_path: Path) -> None:
    """Copies of older data come with 1, 2, 3 in place of 1, 2, 4: the enhancing tumour would be background."""
    write_case(tmp_path / "BraTS2021_00000", OLD, "_", "nii.gz", 3)
    (record,), _ = found(Settings(path=tmp_path, what="volumes"))
    with pytest.raises(RejectedFile, match="has the label value 3; this data set has 1, 2, 4"):
        record.load()


def test_visits_share_their_patient(tmp_path: Path) -> None:
    for visit in ("000", "001"):
        write_case(tmp_path / f"BraTS-GLI-00005-{visit}", NEW, "-", "nii.gz", 3)
    every, _ = found(Settings(path=tmp_path, what="volumes"))
    assert len(every) == 2 and {record.patient for record in every} == {"brats-gli-00005"}


def test_fewer_modalities_in_the_fixed_order(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS2021_00000", OLD, "_", "nii.gz", 4)
    (tmp_path / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz").unlink()
    every, rejected = found(Settings(path=tmp_path, what="volumes", modalities=("flair", "t1ce")))
    assert not rejected and every[0].load().channels == ("t1ce", "flair")
    assert every[0].load().pixels[:, 0, 0, 0].tolist() == [2000, 4000]


def test_bad_cases_cost_themselves_alone(tmp_path: Path) -> None:
    for number in range(6):
        write_case(tmp_path / f"BraTS2021_0000{number}", OLD, "_", "nii.gz", 4)

    def part(number: int, what: str) -> Path:
        return tmp_path / f"BraTS2021_0000{number}" / f"BraTS2021_0000{number}_{what}.nii.gz"

    (tmp_path / "BraTS2021_00009").mkdir()
    part(0, "t1ce").unlink()
    part(1, "seg").unlink()
    part(2, "t2").write_bytes(part(2, "t2").read_bytes()[:60])
    save(part(3, "flair"), np.ones((5, 7, 3), np.int16))
    save(part(4, "t2"), np.arange(126, dtype=np.int16).reshape(6, 7, 3), np.diag([-1.0, -1, 2, 1]))
    every, rejected = found(Settings(path=tmp_path, what="volumes"))
    reasons = {line.path: line.reason for line in rejected}
    assert list(reasons) == [f"BraTS2021_0000{number}" for number in (0, 1, 2, 3, 9)]
    words = ("lacks t1ce; it has flair, seg, t1, t2", "no segmentation", "BraTS2021_00002_t2", "not volumes of one",
             "it has nothing")
    assert [word in reason for word, reason in zip(words, reasons.values(), strict=True)] == [True] * 5
    with pytest.raises(RejectedFile, match="mm off"):
        every[0].load()
    assert every[1].load().mask is not None


def test_cases_without_a_segmentation_are_kept_when_asked(tmp_path: Path) -> None:
    example(tmp_path)
    next(tmp_path.rglob("Brats18_2013_10_1_seg.nii.gz")).unlink()
    assert len(found(Settings(path=tmp_path, what="volumes"))[0]) == 2
    records, _ = found(Settings(path=tmp_path, what="volumes", unmasked="keep"))
    assert sorted(len(record.masks) for record in records) == [0, 1, 1] and all(record.unmasked for record in records)


def test_cases_that_were_published_without_a_segmentation_are_skipped(tmp_path: Path) -> None:
    """They take no labels from the others, as they lie in neither HGG nor LGG."""
    example(tmp_path / "MICCAI_BraTS_2018_Data_Training")
    case = tmp_path / "MICCAI_BraTS_2018_Data_Validation" / "Brats18_CBICA_AAM_1"
    write_case(case, OLD, "_", "nii.gz", 4)
    (case / "Brats18_CBICA_AAM_1_seg.nii.gz").unlink()
    records, (line,) = found(Settings(path=tmp_path, what="volumes"))
    assert [record.label for record in records] == ["HGG", "HGG", "LGG"]
    assert line.skipped and "no segmentation" in line.reason
    every, _ = found(Settings(path=tmp_path, what="volumes", unmasked="keep"))
    assert {record.label for record in every} == {None} and len(every) == 4


def test_cases_without_any_segmentation_have_no_masks(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS20_Validation_001", OLD, "_", "nii.gz", 4)
    (tmp_path / "BraTS20_Validation_001" / "BraTS20_Validation_001_seg.nii.gz").unlink()
    (record,), rejected = found(Settings(path=tmp_path, what="volumes"))
    assert not rejected and record.load().mask is None


def test_the_one_segmentation_of_another_name(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS20_Training_355", OLD, "_", "nii", 4)
    case = tmp_path / "BraTS20_Training_355"
    (case / "BraTS20_Training_355_seg.nii").rename(case / "W39_1998.09.19_Segm.nii")
    (record,), _ = found(Settings(path=tmp_path, what="volumes"))
    mask = record.load().mask
    assert mask is not None and mask.max() == 3


def test_slices_without_a_head_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "BraTS2021_00000"
    write_case(folder, OLD, "_", "nii.gz", 4)
    for name in OLD:
        path = folder / f"{folder.name}_{name}.nii.gz"
        values = np.asarray(nibabel.load(path).dataobj).copy()
        values[:, :, 0] = 0
        save(path, values)
    every, _ = found(Settings(path=tmp_path))
    with pytest.raises(EmptySlice):
        every[0].load()
    assert every[1].load().pixels.shape == (4, 7, 6)


def test_a_folder_that_is_no_brats_says_so(tmp_path: Path) -> None:
    (tmp_path / "BraTS2021_00000").mkdir()
    assert recognise(tmp_path) == "folder"
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="is not BraTS"):
            found(Settings(path=path))

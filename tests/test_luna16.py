"""LUNA16: slices and patches show the right place, with the right label and mask; bad files cost themselves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radsynth.datasets import Record, Rejected, recognise
from radsynth.datasets.luna16 import MASKS, NODULE, OTHER, Settings, example, records
from radsynth.errors import DataError, RejectedFile

pytest.importorskip("SimpleITK")

FIRST = "1.3.6.1.4.1.14519.5.2.1.6279.6001.101"


def found(settings: Settings) -> tuple[list[Record], list[Rejected]]:
    rejected: list[Rejected] = []
    return list(records(settings, rejected)), rejected


def raw(folder: Path) -> np.ndarray:
    return np.fromfile(folder / "subset0" / f"{FIRST}.raw", "<i2").reshape(4, 24, 20)


def turn(folder: Path) -> None:
    """The same scan as some of LUNA16 are stored: columns and rows run the other way."""
    for path in (folder / "subset0" / f"{FIRST}.mhd", folder / MASKS / f"{FIRST}.mhd"):
        text = path.read_text().replace("= 1 0 0 0 1 0 0 0 1", "= -1 0 0 0 -1 0 0 0 1")
        path.write_text(text.replace("Offset = -10 -12 0", "Offset = 9 11 0"))
    path = folder / "subset0" / f"{FIRST}.raw"
    path.write_bytes(np.ascontiguousarray(raw(folder)[:, ::-1, ::-1]).tobytes())


def test_it_is_recognised_before_the_folder(tmp_path: Path) -> None:
    example(tmp_path)
    assert recognise(tmp_path) == "luna16"
    (tmp_path / "other" / "subset0").mkdir(parents=True)
    (tmp_path / "other" / "subset0" / "scan.mhd").touch()
    assert recognise(tmp_path / "other") == "folder"


def test_slices_have_values_label_patient_and_lungs(tmp_path: Path) -> None:
    every, rejected = found(example(tmp_path))
    assert not rejected and len(every) == 12 and len({record.patient for record in every}) == 3
    own = [record for record in every if record.patient == FIRST]
    # Its centre is at slice 1 (2.5 mm), and a radius of 2.5 mm reaches one slice up and down.
    assert [record.label for record in own] == [NODULE, NODULE, NODULE, OTHER]
    assert {record.label for record in every if record.patient != FIRST} == {OTHER}
    image = own[1].load()
    np.testing.assert_array_equal(image.pixels[0], raw(tmp_path)[1])
    assert (image.modality, image.units, image.spacing) == ("CT", "HU", (1.0, 1.0))
    assert image.mask is not None and (image.mask[10, 5], image.mask[10, 15], image.mask[2, 9]) == (1, 2, 3)
    assert not image.mask[:, 9:11][3:].any()


def patches(folder: Path, **more: object) -> list[Record]:
    return found(Settings(path=folder, what="patches", patch_mm=8, patch_pixels=8, **more))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("turned", [False, True])
def test_a_patch_is_centred_on_its_candidate(tmp_path: Path, turned: bool) -> None:
    example(tmp_path)
    values = raw(tmp_path)
    if turned:
        turn(tmp_path)
    (one,) = [record for record in patches(tmp_path) if record.patient == FIRST and record.label == NODULE]
    image = one.load()
    # (-4, -4, 2.5) mm is column 6, row 8, slice 1; a patch of 8 pixels has its middle between two: columns 2.5 to 9.5.
    square = values[1, 4:13, 2:11].astype(float)
    expected = (square[:-1, :-1] + square[1:, :-1] + square[:-1, 1:] + square[1:, 1:]) / 4
    assert np.abs(image.pixels[0] - expected).max() <= 0.51
    assert image.spacing == (1.0, 1.0) and image.affine is not None and image.mask is not None
    np.testing.assert_allclose(image.affine[:3, 3], (-10 + 2.5, -12 + 4.5, 2.5))
    np.testing.assert_allclose((image.affine @ [3.5, 3.5, 0, 1])[:3], (-4, -4, 2.5))
    assert set(np.unique(image.mask)) == {0, 2 if turned else 1}  # the mask's header was turned, its content not


def test_a_patch_of_finer_pixels_says_where_they_lie(tmp_path: Path) -> None:
    settings = example(tmp_path)
    fine = replace(settings, what="patches", patch_mm=8, patch_pixels=16)
    image = next(record for record in found(fine)[0] if record.label == NODULE).load()
    assert image.spacing == (0.5, 0.5) and image.affine is not None
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), (0.5, 0.5, 2.5))
    np.testing.assert_allclose((image.affine @ [7.5, 7.5, 0, 1])[:3], (-4, -4, 2.5))


def test_patches_keep_every_nodule_and_as_many_others_as_asked(tmp_path: Path) -> None:
    example(tmp_path)
    for negatives, count in ((0, 0), (0.5, 1), (1, 2), (9, 3)):
        labels = [record.label for record in patches(tmp_path, negatives=negatives)]
        assert (labels.count(NODULE), labels.count(OTHER)) == (2, count)
    assert [r.source for r in patches(tmp_path)] == [r.source for r in patches(tmp_path)]


def test_a_patch_over_the_edge_shows_air_and_one_outside_is_rejected(tmp_path: Path) -> None:
    example(tmp_path)
    table = f"seriesuid,coordX,coordY,coordZ,class\n{FIRST},-10,-12,0,1\n{FIRST},-10,-12,400,1\n"
    (tmp_path / "candidates_V2.csv").write_text(table)
    edge, outside = patches(tmp_path)
    assert (edge.load().pixels[0][:3, :3] == -1024).all()
    with pytest.raises(RejectedFile, match="outside of the scan"):
        outside.load()


def test_one_bad_scan_costs_itself_alone(tmp_path: Path) -> None:
    settings = example(tmp_path)
    (tmp_path / "subset0" / f"{FIRST}.raw").write_bytes(b"short")
    (tmp_path / MASKS / f"{FIRST[:-1]}2.mhd").unlink()
    header = tmp_path / "subset1" / f"{FIRST[:-1]}3.mhd"
    header.write_text(header.read_text().replace(f"{header.stem}.raw", "../../secret.raw"))
    every, rejected = found(settings)
    assert [(line.path, line.skipped) for line in rejected] == [
        (f"subset0/{FIRST[:-1]}2.mhd", False), (f"subset1/{header.name}", False)
    ]  # fmt: skip
    assert "no lung mask" in rejected[0].reason and "same folder" in rejected[1].reason
    with pytest.raises(RejectedFile, match="cut short"):
        every[0].load()
    assert not found(Settings(path=tmp_path, lungs=False))[1][:-1]


def test_scans_of_the_table_that_are_not_here_are_told(tmp_path: Path) -> None:
    settings = example(tmp_path)
    assert not found(settings)[1]
    for path in (tmp_path / "subset0").glob(f"{FIRST}.*"):
        path.unlink()
    (line,) = found(settings)[1]
    assert line.path == "annotations.csv" and line.skipped
    assert line.reason.startswith(f"1 of the 1 scans that it names are not here, the first {FIRST}")


def test_a_table_that_is_missing_or_broken_ends_in_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    settings = example(tmp_path)
    table = tmp_path / "annotations.csv"
    for text, words in (
        ("a,b\n1,2\n", "needs the columns"),
        (table.read_text().replace("-4,-4", "here,-4"), "line 2"),
        (table.read_text().replace("-4,-4", "nan,-4"), "not finite"),
        (table.read_text()[:-8], r"annotations\.csv cannot be read, near line 2: the line lacks columns"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=words):
            found(settings)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(DataError, match="cannot be read"):
            found(settings)
    table.unlink()
    with pytest.raises(DataError, match="no annotations"):
        found(settings)
    with pytest.raises(DataError, match="is not LUNA16"):
        found(Settings(path=tmp_path / "nowhere"))

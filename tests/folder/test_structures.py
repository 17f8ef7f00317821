"""DICOM's segmentations and contours as masks: of the right series, at the right place, with one label a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

import radsynth
from radsynth import io
from radsynth.datasets import contrasts, folder
from radsynth.datasets._regrid import mask_on
from radsynth.errors import RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.io import _limits
from radsynth.io._dicom_structures import labels_alone
from radsynth.verbs._preparing.extra import extra_records
from tests.folder.examples import found, reasons
from tests.structures import boxes, contours, outlines, scan, segmentation, truth, turned, volume

TYPES = highdicom.seg.SegmentationTypeValues


def whole(path: Path, **settings: Any) -> Image:
    records, rejected = found(path, plane="volume", **settings)
    assert len(records) == 1, rejected
    assert not rejected
    return records[0].load()


@pytest.mark.parametrize("degrees", [0, 40, 100])  # the last one's axes are turned when it is read
@pytest.mark.parametrize("kind", ["binary", "without empty frames", "fractional", "label map", "contours"])
def test_structures_lie_on_the_pixels_that_they_were_drawn_on(kind: str, degrees: float, tmp_path: Path) -> None:
    files = scan(tmp_path / "CT", degrees)
    masks, target = boxes(), tmp_path / "anywhere" / "IM0001"
    if kind == "contours":
        contours(files, outlines(masks), target)
    elif kind == "label map":
        segmentation(files, {"Liver": masks["Liver"] & ~masks["Tumour"], "Tumour": masks["Tumour"]}, target,
                     kind=TYPES.LABELMAP)
    else:
        segmentation(files, masks, target, kind=TYPES.FRACTIONAL if kind == "fractional" else TYPES.BINARY,
                     omit_empty_frames=kind != "binary")
    image = whole(tmp_path)
    assert image.mask is not None and not image.regridded
    assert np.array_equal(image.mask, truth(image)) and set(np.unique(image.mask)) == {0, 1, 2}


def test_slices_of_a_volume_have_their_part_and_all_records_the_names(tmp_path: Path) -> None:
    segmentation(scan(tmp_path / "CT"), boxes(), tmp_path / "seg.dcm")
    records, rejected = found(tmp_path)
    assert len(records) == 6 and not rejected
    for record in records:
        assert record.mask_names == {1: "Liver", 2: "Tumour"} and record.masks == (str(tmp_path / "seg.dcm"),)
    assert "label values 0, 1 (Liver), 2 (Tumour)" in radsynth.inspect(tmp_path).text()
    image = records[3].load()
    assert image.mask is not None and image.mask.any() and np.array_equal(image.mask, truth(image))


def test_a_slice_alone_has_a_mask_too(tmp_path: Path) -> None:
    files = scan(tmp_path / "CT")
    for name, one in (("SEG", segmentation), ("RT", contours)):
        (tmp_path / name).mkdir()
        copied = tmp_path / name / "slice.dcm"
        copied.write_bytes(files[3].read_bytes())
        masks = {key: mask[3:4] for key, mask in boxes().items()}
        one([copied], masks if one is segmentation else outlines(masks), tmp_path / name / "seg.dcm")  # type: ignore
        (record,), rejected = found(tmp_path / name)
        image = record.load()
        assert not rejected and image.mask is not None and np.array_equal(image.mask, truth(image))
        assert set(np.unique(image.mask)) == {0, 1, 2}


def test_a_segmentation_on_a_finer_grid_is_brought_onto_the_image(tmp_path: Path) -> None:
    scan(tmp_path / "CT", 40)
    fine = turned(40)
    fine[:3, 3] += fine[:3, :2] @ (-0.25, -0.25)
    fine[:3, :2] /= 2
    origin = io.Provenance(model="mlp", weights="", seed=9, index=9)
    image = Image(pixels=np.arange(6 * 48 * 40, dtype=np.int16).reshape(1, 6, 48, 40), modality="CT", units="HU",
                  bits=12, spacing=(2.0, 0.35, 0.4), affine=fine)
    files = io.write(image, tmp_path / "fine", provenance=origin, format="dicom")
    frame = pydicom.dcmread(tmp_path / "CT" / "0001.dcm")
    for file in files:  # the same patient and place, on another grid
        dataset = pydicom.dcmread(file)
        dataset.PatientID, dataset.FrameOfReferenceUID = frame.PatientID, frame.FrameOfReferenceUID
        dataset.SeriesInstanceUID = frame.SeriesInstanceUID
        dataset.save_as(file)
    masks = {name: mask.repeat(2, 1).repeat(2, 2) for name, mask in boxes().items()}
    segmentation(files, masks, tmp_path / "seg.dcm")
    for file in files:
        file.unlink()
    image = whole(tmp_path)
    assert image.mask is not None and image.regridded and np.array_equal(image.mask, truth(image))


def test_names_are_labels_whatever_their_numbers(tmp_path: Path) -> None:
    masks = boxes()
    for patient, order in enumerate((("Liver", "Tumour"), ("Tumour", "Liver"), ("Liver",)), start=1):
        files = scan(tmp_path / f"P{patient}", patient=patient)
        spelled = {name.upper() if patient == 2 else name: masks[name] for name in order}
        contours(files, outlines(spelled), tmp_path / "RT" / f"{patient}.dcm")
    records, rejected = found(tmp_path, plane="volume")
    assert len(records) == 3 and not rejected
    for record, tumour in zip(records, (2, 2, 1), strict=True):
        image = record.load()
        assert image.mask is not None and np.array_equal(image.mask, truth(image, tumour=tumour))
        assert record.mask_names == {1: "Liver", 2: "Tumour"}


def test_mask_names_choose_structures(tmp_path: Path) -> None:
    masks = boxes()
    for patient, name in enumerate(("GTV", "tumour 1", "Spleen"), start=1):
        files = scan(tmp_path / f"P{patient}", patient=patient)
        contours(files, outlines({"Liver": masks["Liver"], name: masks["Tumour"]} if name != "Spleen" else
                                 {name: masks["Liver"]}), tmp_path / "RT" / f"{patient}.dcm")
    records, rejected = found(tmp_path, plane="volume", mask_names=("7=gtv|Tumour  1",))
    assert len(records) == 2 and reasons(rejected) == {
        "RT/3.dcm": "it has none of the structures that data.mask_names asks for; it has Spleen",
        "P3/0001.dcm": "it has no mask, as the other images have; data.unmasked=keep uses it"}
    for record in records:
        image = record.load()
        assert image.mask is not None and np.array_equal(image.mask, truth(image, liver=0, tumour=7))
    with pytest.raises(SettingsError, match=r"no segmentation has kidney\. There are .*: Liver \(2\), GTV \(1\)"):
        found(tmp_path, mask_names=("1=kidney",))


def test_an_object_a_structure_makes_one_mask_in_which_the_smaller_counts(tmp_path: Path) -> None:
    files, masks = scan(tmp_path / "CT"), boxes()
    body = np.ones((6, 24, 20), bool)
    for name, mask in (("A tumour", masks["Tumour"]), ("Liver", masks["Liver"]), ("Outline", body)):
        segmentation(files, {name: mask}, tmp_path / f"{name}.dcm")
    image = whole(tmp_path)
    expected = truth(image, liver=2, tumour=1)
    assert image.mask is not None and np.array_equal(image.mask, np.where(expected == 0, 3, expected))


def test_objects_of_what_is_not_here_and_doubled_ones_are_told(tmp_path: Path) -> None:
    files, masks = scan(tmp_path / "CT"), boxes()
    segmentation(scan(tmp_path / "gone", patient=2), masks, tmp_path / "other.dcm")
    for file in (tmp_path / "gone").iterdir():
        file.unlink()
    segmentation(files, masks, tmp_path / "seg.dcm")
    records, rejected = found(tmp_path, plane="volume")
    assert len(records) == 1 and reasons(rejected) == {"other.dcm": "the series that it was drawn on is not here"}
    assert rejected[0].skipped


def test_identifiers_that_two_patients_share_are_told_apart_by_the_patient(tmp_path: Path) -> None:
    masks = boxes()
    for patient in (1, 2):
        files = scan(tmp_path / f"P{patient}", patient=patient)
        for file in files:  # as some software that removes names does
            dataset = pydicom.dcmread(file)
            dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4"
            dataset.save_as(file)
        segmentation(files, masks, tmp_path / f"seg{patient}.dcm")
    records, rejected = found(tmp_path, plane="volume")
    assert not rejected and [Path(record.masks[0]).name for record in records] == ["seg1.dcm", "seg2.dcm"]
    for name in ("seg1.dcm", "seg2.dcm"):
        dataset = pydicom.dcmread(tmp_path / name)
        dataset.PatientID = "nobody"
        dataset.save_as(tmp_path / name)
    records, rejected = found(tmp_path, plane="volume")
    assert [line.path for line in rejected] == ["seg1.dcm", "seg2.dcm"] and not any(one.masks for one in records)
    assert all("may be the mask of several images" in line.reason for line in rejected)


def moved(path: Path, mm: float, copies: bool = False, names: tuple[str, ...] = ("Liver", "Tumour")) -> None:
    """Shift contours of a set along the patient's long axis, or add such copies."""
    dataset = pydicom.dcmread(path)
    numbers = [told.ROINumber for told in dataset.StructureSetROISequence if told.ROIName in names]
    for roi in dataset.ROIContourSequence:
        if roi.ReferencedROINumber not in numbers:
            continue
        for contour in [*roi.ContourSequence]:
            points = np.array(contour.ContourData, float).reshape(-1, 3) + np.array([0, 0, mm])
            if copies:
                roi.ContourSequence.append(contour := pydicom.Dataset())
                contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.ContourData = points.ravel().tolist()
    dataset.save_as(path)


def test_of_contours_in_several_planes_of_a_slice_the_nearest_to_its_middle_count(tmp_path: Path) -> None:
    """As of a set that was drawn on thinner slices; they are no holes in each other."""
    path = contours(scan(tmp_path / "CT"), outlines(boxes()), tmp_path / "rt.dcm")
    moved(path, 0.8, copies=True)
    image = whole(tmp_path)
    assert image.mask is not None and np.array_equal(image.mask, truth(image))


def test_contours_half_way_between_slices_lie_in_one_each(tmp_path: Path) -> None:
    path = contours(scan(tmp_path / "CT"), outlines(boxes()), tmp_path / "rt.dcm")
    moved(path, 1)
    image = whole(tmp_path)
    expected = np.roll(truth(image), 1, axis=0)
    assert image.mask is not None and np.array_equal(image.mask, expected) and expected[5].any()


@pytest.mark.parametrize("kind", ["contours", "segmentation"])
def test_a_structure_beside_the_image_is_not_in_its_mask_and_others_are(kind: str, tmp_path: Path) -> None:
    files, masks = scan(tmp_path / "CT"), boxes()
    far = {"Brain": masks["Liver"]}
    if kind == "contours":
        moved(contours(files, outlines(masks | far), tmp_path / "rt.dcm"), 300, names=("Brain",))
    else:
        segmentation(files, masks, tmp_path / "seg.dcm")
        dataset = pydicom.dcmread(segmentation(files, far, tmp_path / "far.dcm"))
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.PlanePositionSequence[0].ImagePositionPatient[2] += 300
        dataset.save_as(tmp_path / "far.dcm")
    image = whole(tmp_path)
    assert image.mask is not None and np.array_equal(image.mask, truth(image, liver=2, tumour=3))
    (record,), _ = found(tmp_path, plane="volume", mask_names=("1=brain",))
    with pytest.raises(RejectedFile, match="do not show the same place"):
        record.load()


@pytest.mark.parametrize("degrees", [0, 40, 100])
def test_slices_between_frames_are_not_filled_where_nobody_says_how_far_apart_they_are(
        degrees: float, tmp_path: Path) -> None:
    """As of two lesions in a slice each, by programs that leave out empty frames."""
    files, masks = scan(tmp_path / "CT", degrees), boxes()
    some = {name: mask[[1, 4]] for name, mask in masks.items()}
    dataset = pydicom.dcmread(segmentation([files[1], files[4]], some, tmp_path / "seg.dcm"))
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    dataset.save_as(tmp_path / "seg.dcm")
    image = whole(tmp_path)
    expected = truth(image)
    expected[[0, 2, 3, 5]] = 0
    assert image.mask is not None and not image.regridded and np.array_equal(image.mask, expected)


def test_frames_of_many_structures_may_be_more_than_a_volume_and_positions_may_not(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_limits, "MAX_VOXELS", 6 * 24 * 20)
    files, masks = scan(tmp_path / "CT"), boxes()
    path = segmentation(files, masks, tmp_path / "seg.dcm", omit_empty_frames=False)
    image = whole(tmp_path)
    assert image.mask is not None and np.array_equal(image.mask, truth(image))
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0].ImagePositionPatient[2] += 2e7
    dataset.save_as(path)
    (record,), _ = found(tmp_path, plane="volume")
    with pytest.raises(RejectedFile, match=r"1000000\d x 24 x 20 voxels; the limit is"):
        record.load()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_segmentations_are_decoded(syntax: str, tmp_path: Path) -> None:
    masks = boxes()
    exclusive = {"Liver": masks["Liver"] & ~masks["Tumour"], "Tumour": masks["Tumour"]}
    segmentation(scan(tmp_path / "CT"), exclusive, tmp_path / "seg.dcm", kind=TYPES.LABELMAP,
                 transfer_syntax_uid=syntax)
    image = whole(tmp_path)
    assert image.mask is not None and np.array_equal(image.mask, truth(image))


def test_names_steer_no_terminal(tmp_path: Path) -> None:
    files, masks = scan(tmp_path / "CT"), boxes()
    contours(files, outlines({"Liver\x1b[31m": masks["Liver"], "\x1b": masks["Tumour"]}), tmp_path / "rt.dcm")
    assert "1 (Liver [31m), 2 (structure 2)" in radsynth.inspect(tmp_path).text()


def test_a_damaged_sequence_costs_its_file_alone(tmp_path: Path) -> None:
    path = segmentation(scan(tmp_path / "CT"), boxes(), tmp_path / "seg.dcm")
    path.write_bytes(path.read_bytes().replace(b"\x00\x52\x29\x92SQ", b"\x00\x52\x29\x92S|"))
    records, (line,) = found(tmp_path, plane="volume")
    assert len(records) == 1 and line.path == "seg.dcm" and "functional groups cannot be read" in line.reason


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    files, masks = scan(tmp_path / "CT"), boxes()
    whole_file = segmentation(files, masks, tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "seg.dcm").write_bytes(whole_file[:-400])
    (record,), _ = found(tmp_path, plane="volume")
    with pytest.raises(RejectedFile, match=r"its segmentation seg\.dcm"):
        record.load()
    (tmp_path / "seg.dcm").unlink()
    beside = {"Liver": [(0, np.array([[3, 3], [3, 9], [9, 9]], float))]}
    path = contours(files, beside, tmp_path / "rt.dcm")
    for change, reason in (
            (lambda contour: setattr(contour, "ContourData", contour.ContourData[:-1]), "8 numbers"),
            (lambda contour: setattr(contour, "ContourData", [0, 0, 900, 9, 0, 900, 9, 9, 900]), "beside the image"),
            (lambda contour: setattr(contour, "ContourData", [0, 0, 0, 9, 0, 3, 9, 9, 8]), "no plane")):
        dataset = pydicom.dcmread(path)
        change(dataset.ROIContourSequence[0].ContourSequence[0])
        dataset.save_as(tmp_path / "rt.dcm")
        (record,), _ = found(tmp_path, plane="volume")
        with pytest.raises(RejectedFile, match=reason):
            record.load()
        contours(files, beside, path)


def test_more_structures_than_labels_are_told_with_what_to_choose_and_cost_no_image(tmp_path: Path) -> None:
    files = scan(tmp_path / "CT")
    contours(files, {f"ROI {number}": [] for number in range(256)}, tmp_path / "rt.dcm")
    records, rejected = found(tmp_path, plane="volume")
    assert len(records) == 1 and not records[0].masks and records[0].load().mask is None
    (line,) = rejected
    assert line.path == "rt.dcm" and line.skipped and "name 256 structures" in line.reason
    assert "data.mask_names=" in line.reason
    (record,), _ = found(tmp_path, plane="volume", mask_names=("1=ROI 7",))
    assert record.masks


def test_a_mask_file_comes_before_a_segmentation_object(tmp_path: Path) -> None:
    import nibabel

    segmentation(scan(tmp_path / "CT"), boxes(), tmp_path / "object.dcm")
    nibabel.save(nibabel.Nifti1Image(np.ones((20, 24, 6), np.uint8), np.eye(4)), tmp_path / "seg.nii.gz")
    (record,), rejected = found(tmp_path, plane="volume")
    assert record.masks == (str(tmp_path / "seg.nii.gz"),)
    assert reasons(rejected) == {"object.dcm": "its series has a mask already, seg.nii.gz"}


def test_in_examinations_it_is_the_mask_of_all_contrasts(tmp_path: Path) -> None:
    masks, first = boxes(), None
    for name in ("t1", "flair"):
        files = scan(tmp_path / "P1" / name)
        for file in files:
            dataset = pydicom.dcmread(file)
            first = first or dataset
            dataset.SeriesDescription, dataset.SeriesInstanceUID = name, f"1.2.3.{len(name)}"
            dataset.SOPInstanceUID += f".{len(name)}"
            dataset.save_as(file)
    segmentation(files, masks, tmp_path / "P1" / "SEG" / "seg.dcm")
    rejected: list[Any] = []
    settings = contrasts.Settings(path=tmp_path, contrasts=("t1", "flair"), plane="volume")
    (record,) = contrasts.records(settings, rejected)
    image = record.load()
    assert not rejected and record.mask_names == {1: "Liver", 2: "Tumour"}
    assert record.masks == (str(tmp_path / "P1" / "SEG" / "seg.dcm"),)
    assert image.channels == ("t1", "flair") and image.mask is not None and np.array_equal(image.mask, truth(image))
    dataset = pydicom.dcmread(record.masks[0])  # as those that `apply` writes, it names none of both
    del dataset.ReferencedSeriesSequence
    dataset.save_as(record.masks[0])
    (record,) = contrasts.records(settings, rejected)
    assert not rejected and np.array_equal(record.load().mask, truth(image))  # type: ignore[arg-type]


def test_they_are_labels_for_a_registration_too(tmp_path: Path) -> None:
    files, masks = scan(tmp_path / "CT", 40), boxes()
    (image,) = io.read(tmp_path / "CT")  # type: ignore[misc]
    objects = segmentation(files, masks, tmp_path / "seg.dcm"), contours(files, outlines(masks), tmp_path / "rt.dcm")
    for path in objects:
        assert np.array_equal(mask_on(path, image, "CT", "labels").pixels[0], truth(image))
    dataset = pydicom.dcmread(objects[1])
    dataset.StructureSetROISequence[0].ROINumber = dataset.ROIContourSequence[0].ReferencedROINumber = 300
    dataset.save_as(tmp_path / "many.dcm")
    with pytest.raises(RejectedFile, match=r"many\.dcm: .* the number 300; labels go from 1 to 255"):
        mask_on(tmp_path / "many.dcm", image, "CT", "labels")
    dataset.StructureSetROISequence[0].ROINumber = dataset.ROIContourSequence[0].ReferencedROINumber = -1
    dataset.save_as(tmp_path / "many.dcm")
    with pytest.raises(RejectedFile, match="the number -1; labels go from 1"):
        mask_on(tmp_path / "many.dcm", image, "CT", "labels")
    (tmp_path / "broken.dcm").write_bytes((tmp_path / "seg.dcm").read_bytes()[:3000])
    with pytest.raises(RejectedFile, match=r"broken\.dcm"):
        mask_on(tmp_path / "broken.dcm", image, "CT", "labels")


def test_alone_a_segmentation_lies_on_its_own_grid(tmp_path: Path) -> None:
    """With the slices that it has something in, and the names that are known."""
    files, masks = scan(tmp_path / "CT", 40), boxes()
    (image,) = io.read(tmp_path / "CT")  # type: ignore[misc]
    path = segmentation(files, masks, tmp_path / "seg.dcm")
    expected = truth(image)
    for wanted, values in (({}, (1, 2)), ({"liver": 3, "tumour": 9, "spleen": 4}, (3, 9))):
        alone = labels_alone(path, wanted)
        assert np.array_equal(alone.pixels[0], np.select([expected == 1, expected == 2], values)[1:5])
        assert alone.affine is not None and alone.frame == image.frame
    with pytest.raises(RejectedFile, match="it has tumour; the run knows liver"):
        labels_alone(path, {"liver": 1})
    with pytest.raises(RejectedFile, match="no grid of their own"):
        labels_alone(contours(files, outlines(masks), tmp_path / "rt.dcm"), {})


@pytest.mark.parametrize("names", [("2=Liver", "1=GTV|Tumour"), ("3=Liver", "7=GTV|Tumour")])
def test_what_extra_adds_has_the_labels_of_the_data_and_is_cut_as_it_is(names: tuple[str, ...], tmp_path: Path) -> None:
    """Its structures are numbered otherwise, and are none but those; the label of several names is written as one."""
    files, masks = scan(tmp_path / "extra" / "CT", patient=2), boxes()
    written = io.write_labels(volume().replace(pixels=truth(volume())[None]), tmp_path / "labels.dcm", of=files, names={
        1: "liver", 2: "GTV|Tumour"}, provenance=io.Provenance(model="", weights="", seed=0, index=0), format="dicom")
    segmentation(scan(tmp_path / "data" / "CT"), masks, tmp_path / "data" / "seg.dcm")
    settings = folder.Settings(path=tmp_path / "data", plane="volume", mask_names=names)
    data = list(folder.records(settings, []))
    written[0].rename(tmp_path / "extra" / "seg.dcm")
    (record,) = extra_records(tmp_path / "extra", data, settings, [])
    image, liver, tumour = record.load(), *(int(name[0]) for name in names)
    assert image.mask is not None and np.array_equal(image.mask, truth(image, liver=liver, tumour=tumour))
    assert record.mask_names == data[0].mask_names

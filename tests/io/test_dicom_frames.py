"""Enhanced multi-frame DICOM: functional groups, stacks, time points, scale a frame; and what must be refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from radsynth import io
from radsynth.datasets import Rejected, folder
from radsynth.errors import RejectedFile
from tests.io.files import one

ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}
ROWS, COLUMNS = 12, 10


def group(**attributes: object) -> Dataset:
    made = Dataset()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def enhanced(path: Path, places: list[dict[str, object]], modality: str = "CT", **fields: object) -> np.ndarray:
    """A file with one frame for each place: z in mm, and what else tells it apart. Returns the stored values."""
    dataset = group(
        SOPClassUID=ENHANCED[modality], SOPInstanceUID=generate_uid(), Modality=modality, PatientID="A",
        StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid(),
        Rows=ROWS, Columns=COLUMNS, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=16,
        BitsStored=12, HighBit=11, PixelRepresentation=0, NumberOfFrames=len(places),
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    )  # fmt: skip
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.DimensionIndexSequence = [
        group(DimensionIndexPointer=Tag(pointer)) for pointer in (0x00209128, 0x00209057, 0x00189241)
    ]
    dataset.SharedFunctionalGroupsSequence = [group(
        PixelMeasuresSequence=[group(PixelSpacing=[0.7, 0.8], SliceThickness=2)],
        PlaneOrientationSequence=[group(ImageOrientationPatient=fields.pop("orientation", [1, 0, 0, 0, 1, 0]))],
    )]  # fmt: skip
    dataset.PerFrameFunctionalGroupsSequence = [
        group(
            PlanePositionSequence=[group(ImagePositionPatient=place.get("position", [-4, -5, place.get("z", 0)]))],
            FrameContentSequence=[group(
                StackID=str(place.get("stack", 1)), TemporalPositionIndex=int(str(place.get("time", 1))),
                DimensionIndexValues=[place.get("time", 1), number + 1, place.get("other", 1)],
            )],
            PixelValueTransformationSequence=[group(
                RescaleIntercept=place.get("intercept", -1024), RescaleSlope=place.get("slope", 1), RescaleType="HU",
            )],
            FrameVOILUTSequence=[group(WindowCenter=40, WindowWidth=400)],
        )
        for number, place in enumerate(places)
    ]  # fmt: skip
    stored = np.arange(len(places))[:, None, None] * 100 + np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    dataset.PixelData = stored.astype("<u2").tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return stored


def steps(*heights: float) -> list[dict[str, object]]:
    return [{"z": height} for height in heights]


def test_frames_in_any_order_become_one_volume_with_its_geometry(tmp_path: Path) -> None:
    stored = enhanced(tmp_path / "a.dcm", steps(4, 0, 6, 2))
    header, image = io.header(tmp_path / "a.dcm"), one(tmp_path / "a.dcm")
    assert (header.size, header.frames, header.units, header.modality) == ((4, ROWS, COLUMNS), 1, "HU", "CT")
    assert image.space == header.size and image.spacing == pytest.approx((2, 0.7, 0.8)) == header.spacing
    assert np.array_equal(image.pixels[0], stored[[1, 3, 0, 2]] - 1024)
    assert image.affine is not None and image.affine[:3, 3] == pytest.approx([-4, -5, 0])
    assert image.window == (-160, 240)


def test_each_frame_has_its_own_scale(tmp_path: Path) -> None:
    places = [{"z": 0, "slope": 2, "intercept": 0}, {"z": 2, "slope": 0.5, "intercept": 7}]
    stored = enhanced(tmp_path / "a.dcm", places)
    image = one(tmp_path / "a.dcm")
    assert np.allclose(image.pixels[0], [stored[0] * 2, stored[1] * 0.5 + 7])


@pytest.mark.parametrize("apart", ["time", "stack", "other"])
def test_time_points_stacks_and_other_dimensions_are_volumes_of_their_own(apart: str, tmp_path: Path) -> None:
    places = [{"z": z, apart: number} for z in (0, 2, 4) for number in (1, 2)]
    stored = enhanced(tmp_path / "a.dcm", places, "MR")
    assert io.header(tmp_path / "a.dcm").frames == 2
    first, second = io.read(tmp_path / "a.dcm")  # type: ignore[misc]  # several volumes are a list
    assert first.space == second.space == (3, ROWS, COLUMNS)
    assert np.array_equal(first.pixels[0], stored[::2] - 1024) and np.array_equal(second.pixels[0], stored[1::2] - 1024)


def test_the_same_volume_as_single_frames_is_equal(tmp_path: Path) -> None:
    """A sagittal volume, once enhanced and once as radsynth's own series."""
    orientation = [0, 1, 0, 0, 0, -1]
    places = [{"position": [-2.0 * n, 5, 7]} for n in range(4)]
    stored = enhanced(tmp_path / "a.dcm", places, orientation=orientation)
    found = one(tmp_path / "a.dcm")
    assert found.space == (ROWS, COLUMNS, 4) and found.spacing == pytest.approx((0.7, 0.8, 2))
    origin = io.Provenance(model="", weights="", seed=0, index=0)
    files = io.write(found, tmp_path / "b", format="dicom", provenance=origin)
    [again] = io.read(files[0].parent)  # type: ignore[misc]  # a folder gives a list
    assert np.array_equal(again.pixels, found.pixels) and again.affine == pytest.approx(found.affine, abs=1e-4)
    assert set(np.unique(found.pixels)) == set(np.unique(stored - 1024))


def test_compressed_frames_are_decoded_at_once(tmp_path: Path) -> None:
    enhanced(tmp_path / "a.dcm", steps(0, 2, 4))
    expected = one(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "b.dcm")
    assert np.array_equal(one(tmp_path / "b.dcm").pixels, expected.pixels)


def test_a_single_frame_is_an_image_with_its_place(tmp_path: Path) -> None:
    enhanced(tmp_path / "a.dcm", steps(30))
    image = one(tmp_path / "a.dcm")
    assert image.space == (ROWS, COLUMNS) and image.affine is not None and image.affine[2, 3] == 30


def test_faults_are_told(tmp_path: Path) -> None:
    enhanced(tmp_path / "gap.dcm", steps(0, 2, 4, 10, 12))
    enhanced(tmp_path / "twice.dcm", steps(0, 2, 2, 4))
    enhanced(tmp_path / "more.dcm", steps(0, 2), NumberOfFrames=3)
    for name, reason in (("gap", "missing"), ("twice", "place of another"), ("more", "describes 2")):
        with pytest.raises(RejectedFile, match=reason):
            io.read(tmp_path / f"{name}.dcm")


def test_what_all_frames_share_is_known_where_none_is_described_by_itself(tmp_path: Path) -> None:
    stored = enhanced(tmp_path / "a.dcm", steps(0, 2, 4), PerFrameFunctionalGroupsSequence=[])
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence = [group(RescaleIntercept=-1024, RescaleSlope=2, RescaleType="HU")]
    shared.PlanePositionSequence = [group(ImagePositionPatient=[0, 0, 0])]
    for name in ("none", "empty"):
        dataset.save_as(tmp_path / "a.dcm")
        found = io.read(tmp_path / "a.dcm")
        assert isinstance(found, list) and io.header(tmp_path / "a.dcm").frames == 3, name
        assert all(image.units == "HU" and image.spacing == pytest.approx((0.7, 0.8)) for image in found)
        assert np.array_equal(np.stack([image.pixels[0] for image in found]), stored * 2 - 1024)
        dataset.pop("PerFrameFunctionalGroupsSequence", None)


def test_a_frame_without_its_scale_is_no_slice_of_the_others_volume(tmp_path: Path) -> None:
    enhanced(tmp_path / "a.dcm", steps(0, 2, 4, 6))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    del dataset.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(RejectedFile, match="1 of its 4 slices does not say how values become Hounsfield units"):
        io.read(tmp_path / "a.dcm")


def test_a_folder_of_them_gives_slices_volumes_and_patients(tmp_path: Path) -> None:
    enhanced(tmp_path / "a.dcm", [{"z": z, "time": t} for t in (1, 2) for z in (0, 2, 4)], "MR")
    enhanced(tmp_path / "b.dcm", steps(0, 2, 4, 10), "MR")

    def records(**settings: object) -> tuple[list[folder.Record], list[Rejected]]:
        rejected: list[Rejected] = []
        return list(folder.records(folder.Settings(path=tmp_path, **settings), rejected)), rejected  # type: ignore[arg-type]

    volumes, _ = records(plane="volume")
    assert [record.load().space for record in volumes] == [(3, ROWS, COLUMNS)] * 2
    assert len({record.source for record in volumes}) == 2
    (tmp_path / "c.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:900])  # of which b.dcm lacks nothing
    reasons = {one.path: one.reason for one in records(plane="volume")[1]}
    assert reasons["b.dcm#0"].startswith("a volume of 4 frames: about 2 of its slices are missing: ")
    assert "c.dcm" not in reasons["b.dcm#0"] and "c.dcm" in reasons
    slices, _ = records(incomplete="slices")
    assert len(slices) == 10 and {record.load().space for record in slices} == {(ROWS, COLUMNS)}
    assert len({record.patient for record in slices}) == 1


def test_burned_in_text_is_flagged_and_left_out_when_asked(tmp_path: Path) -> None:
    for number, (name, said, kind) in enumerate((
        ("yes", "YES", ENHANCED["CT"]), ("no", "NO", "1.2.840.10008.5.1.4.1.1.7"), ("silent", "", ENHANCED["CT"]),
        ("capture", "", "1.2.840.10008.5.1.4.1.1.7"), ("ultrasound", "", "1.2.840.10008.5.1.4.1.1.6.1"),
    )):  # fmt: skip
        enhanced(tmp_path / f"{name}.dcm", steps(number), BurnedInAnnotation=said, SOPClassUID=kind)
    flagged = {path.stem for path in tmp_path.iterdir() if io.header(path).burned_in}
    assert flagged == {"yes", "capture", "ultrasound"}
    assert "data.burned_in=exclude" in io.header(tmp_path / "capture.dcm").notes[0]
    rejected: list[Rejected] = []
    kept = list(folder.records(folder.Settings(path=tmp_path, burned_in="exclude"), rejected))
    assert {record.source.partition(".")[0] for record in kept} == {"no", "silent"}
    assert {line.path.partition(".")[0] for line in rejected} == flagged
    assert len(list(folder.records(folder.Settings(path=tmp_path), []))) == 5


def test_values_that_bend_the_standard_are_not_warned_of_for_every_frame(
        tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Identifiers that are too long are common; a volume of 500 frames told of them thousands of times."""
    with pydicom.config.disable_value_validation():
        stored = enhanced(tmp_path / "a.dcm", steps(0, 2, 4), SeriesInstanceUID="1." * 33 + "1")
    recwarn.clear()
    assert np.array_equal(one(tmp_path / "a.dcm").pixels[0], stored - 1024)
    assert not recwarn.list


def test_private_macros_change_nothing(tmp_path: Path) -> None:
    """Philips puts the attributes of the former single-frame file into one of its own."""
    stored = enhanced(tmp_path / "a.dcm", steps(0, 2, 4))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        block = frame.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
        block.add_new(0x0F, "SQ", [group(RescaleIntercept=5, RescaleSlope=7, ImagePositionPatient=[0, 0, 0])])
    dataset.save_as(tmp_path / "a.dcm")
    assert np.array_equal(one(tmp_path / "a.dcm").pixels[0], stored - 1024)


def test_echoes_and_phases_in_one_file_are_kinds_of_their_own_that_can_be_chosen(tmp_path: Path) -> None:
    """All had one series description, so that they were learned as one kind of image without a word."""
    places = [{"z": z} for z in (0, 2, 4) for _ in range(3)]
    stored = enhanced(tmp_path / "a.dcm", places, "MR", SeriesDescription="Dual", DimensionIndexSequence=[])
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        echo, component = ((10.0, "MAGNITUDE"), (90.0, "MAGNITUDE"), (90.0, "PHASE"))[number % 3]
        frame.MREchoSequence = [group(EffectiveEchoTime=echo)]
        frame.MRImageFrameTypeSequence = [group(ComplexImageComponent=component)]
    dataset.save_as(tmp_path / "a.dcm")
    rejected: list[Rejected] = []
    every = [*folder.records(folder.Settings(path=tmp_path, plane="volume"), rejected)]
    assert [record.header.series for record in every if record.header] == [
        "Dual, echo 10 ms, MAGNITUDE", "Dual, echo 90 ms, MAGNITUDE", "Dual, echo 90 ms, PHASE"]
    chosen = folder.Settings(path=tmp_path, plane="volume", series="echo 90 ms, MAG")
    (volume,) = [record.load() for record in folder.records(chosen, rejected)]
    assert np.array_equal(volume.pixels[0], stored[1::3] - 1024) and not rejected

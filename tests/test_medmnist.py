"""The data set `medmnist`: the official layout, the plain one, and files that do not fit."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from radsynth.datasets import Record, Rejected, folder, medmnist, recognise
from radsynth.errors import DataError, RejectedFile, SettingsError

RNG = np.random.default_rng(0)


def stack(*shape: int) -> np.ndarray:
    return RNG.integers(0, 255, shape, np.uint8)


def found(path: Path, **settings: object) -> list[Record]:
    return list(medmnist.records(medmnist.Settings(path=path, **settings), []))  # type: ignore[arg-type]


def official(path: Path, space: tuple[int, ...] = (8, 8), labels: int = 1) -> Path:
    arrays = {}
    for part, count in (("test", 2), ("train", 4), ("val", 3)):
        arrays[f"{part}_images"] = stack(count, *space)
        arrays[f"{part}_labels"] = (np.arange(count * labels) % 2).reshape(count, labels)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # the stub wants no other keyword
    return path


def test_the_official_split_and_labels_are_kept(tmp_path: Path) -> None:
    path = official(tmp_path / "pathmnist.npz")
    assert recognise(path) == "medmnist"
    records = found(path, class_names=("well", "ill"), modality="DX")
    assert [record.split for record in records] == ["train"] * 4 + ["validation"] * 3 + ["test"] * 2
    assert [record.label for record in records[:4]] == ["well", "ill"] * 2
    assert len({record.patient for record in records}) == 9
    with np.load(path) as archive:
        assert np.array_equal(records[5].load().pixels[0], archive["val_images"][1])
    again = pickle.loads(pickle.dumps(records[5]))
    assert np.array_equal(again.load().pixels, records[5].load().pixels) and again.load().modality == "DX"


@pytest.mark.parametrize(
    ("space", "channels", "size"), [((8, 6, 3), 3, (8, 6)), ((5, 8, 6), 1, (5, 8, 6)), ((8, 6), 1, (8, 6))]
)
def test_colour_and_volumes(space: tuple[int, ...], channels: int, size: tuple[int, ...], tmp_path: Path) -> None:
    [record, *_] = found(official(tmp_path / "a.npz", space))
    image = record.load()
    assert record.header is not None and record.header.size == image.space == size
    assert record.header.channels == len(image.pixels) == channels


def test_two_or_more_channels_are_no_columns(tmp_path: Path) -> None:
    """(n, rows, columns, 2) would else be volumes two columns wide; a longer one is channels where it is named."""
    many, two = stack(3, 8, 6, 5), ("channel 1", "channel 2")
    for number, (values, named, size, channels) in enumerate((
        (many[..., :2], (), (8, 6), two), (many[..., :2], ("t1", "t2"), (8, 6), ("t1", "t2")),
        (many, tuple("abcde"), (8, 6), tuple("abcde")), (many, ("t1", "t2"), (8, 6, 5), ("grey",)),
        (many[:, None, ...], (), (8, 6, 5), ("grey",)), (many[:, :, None, ..., :2], (), (8, 1, 6), two),
    )):
        np.savez(tmp_path / f"{number}.npz", images=values, **({"channels": np.asarray(named)} if named else {}))
        record = found(tmp_path / f"{number}.npz")[1]
        image = record.load()
        assert record.header is not None and record.header.size == image.space == size and image.channels == channels
        assert record.header.channels == len(channels)
        last = np.moveaxis(values[1], -1, 0) if len(channels) > 1 else values[1].reshape(1, *size)
        assert np.array_equal(image.pixels, last)


def test_few_before_rows_are_channels_and_no_slices(tmp_path: Path) -> None:
    """(n, 2, rows, columns), as PyTorch has images, would else be volumes of two slices; it is said, and what else."""
    two, named_two = stack(3, 2, 8, 6), ("channel 1", "channel 2")
    for number, (values, named, size, channels) in enumerate((
        (two, (), (8, 6), named_two), (stack(3, 2, 9, 8, 6), (), (9, 8, 6), named_two),
        (stack(3, 5, 8, 6), tuple("abcde"), (8, 6), tuple("abcde")), (two, ("t1", "t2"), (8, 6), ("t1", "t2")),
        (two, ("grey",), (2, 8, 6), ("grey",)), (two[..., None], (), (2, 8, 6), ("grey",)),
    )):
        np.savez(tmp_path / f"{number}.npz", images=values, **({"channels": np.asarray(named)} if named else {}))
        record = found(tmp_path / f"{number}.npz", patient_pattern="")[1]
        image = record.load()
        assert record.header is not None and record.header.size == image.space == size and image.channels == channels
        assert np.array_equal(image.pixels, values[1].reshape(len(channels), *size))
        assert [note for note in record.header.notes if "volumes of 2 slices" in note] == list(record.header.notes)
        assert bool(record.header.notes) == (number < 2)
    np.savez(tmp_path / "masks.npz", images=two, masks=two)
    with pytest.raises(DataError, match=r"of shape \(3, 8, 6\) .*2 slices are told by a further last axis of 1"):
        found(tmp_path / "masks.npz")
    np.savez(tmp_path / "many.npz", images=stack(3, 5, 9, 8, 6))
    with pytest.raises(DataError, match="nothing tells which axis is channels"):
        found(tmp_path / "many.npz")


def test_one_channel_is_no_axis_of_space(tmp_path: Path) -> None:
    """(n, rows, columns, 1) and (n, 1, rows, columns) are what deep-learning libraries write for grey images."""
    plain = stack(3, 8, 6)
    for number, (shape, masks) in enumerate((((3, 8, 6, 1), (3, 8, 6)), ((3, 1, 8, 6), (3, 1, 8, 6)))):
        np.savez(tmp_path / f"{number}.npz", images=plain.reshape(shape), masks=(plain > 99).reshape(masks))
        record = found(tmp_path / f"{number}.npz")[1]
        image = record.load()
        assert record.header is not None and record.header.size == (8, 6) and image.channels == ("grey",)
        assert np.array_equal(image.pixels[0], plain[1]) and np.array_equal(image.mask, plain[1] > 99)


def test_whole_numbers_of_any_type_are_labels(tmp_path: Path) -> None:
    for kind in (bool, np.float64):
        np.savez(tmp_path / "a.npz", images=stack(3, 8, 8), labels=np.array([1, 0, 1]).astype(kind))
        assert [record.label for record in found(tmp_path / "a.npz")] == ["1", "0", "1"]
    np.savez(tmp_path / "b.npz", images=stack(3, 8, 8), labels=np.array([1.5, 0, 1]))
    assert {record.label for record in found(tmp_path / "b.npz")} == {None}


def test_several_labels_an_image_are_no_classes_and_that_is_said(tmp_path: Path) -> None:
    path = official(tmp_path / "chestmnist.npz", labels=14)
    records = found(path)
    assert {record.label for record in records} == {None} and not any(record.conditions for record in records)
    assert all("its 14 labels" in note and "label0 to label13" in note for record in records if record.header
               for note in record.header.notes)
    assert all(record.header and len(record.header.notes) == 1 for record in records)


@pytest.mark.parametrize("kind", [np.uint8, np.float32, bool])
def test_one_hot_labels_are_classes(kind: type, tmp_path: Path) -> None:
    """Unless another part has an image of two findings or of none: a small part alone may look so by chance."""
    path, labels = tmp_path / "a.npz", np.array([[0, 0, 1], [1, 0, 0], [0, 0, 1]], kind)
    np.savez(path, images=stack(3, 8, 8), labels=labels)
    assert [record.label for record in found(path)] == ["2", "0", "2"]
    assert not any(record.header is None or record.header.notes for record in found(path, patient_pattern=""))
    named = found(path, class_names=("well", "odd", "ill"))
    assert [record.label for record in named] == ["ill", "well", "ill"]
    numbers = found(path, class_names=("well", "odd", "ill"), conditions=("ill",))
    assert [(record.label, record.conditions) for record in numbers[:2]] == [(None, {"ill": 1}), (None, {"ill": 0})]
    for other in ([1, 0, 1], [0, 0, 0]):
        np.savez(path, train_images=stack(3, 8, 8), train_labels=labels, test_images=stack(1, 8, 8),
                 test_labels=np.array([other], kind))
        assert {record.label for record in found(path)} == {None}


def test_labels_are_learned_as_numbers_where_asked_for(tmp_path: Path) -> None:
    path = official(tmp_path / "chestmnist.npz", labels=3)
    records = found(path, conditions=("label2", "label0"))
    assert [record.conditions for record in records[:3]] == [
        {"label2": 0, "label0": 0}, {"label2": 1, "label0": 1}, {"label2": 0, "label0": 0}]
    assert not any(record.label or record.header is None or record.header.notes for record in records)
    named = found(path, class_names=("Mass", "Effusion", "Hernia"), conditions=("Effusion",))
    assert [record.conditions["Effusion"] for record in named[:3]] == [1, 0, 1]
    with pytest.raises(SettingsError, match=r"no 'Efusion' \(did you mean Effusion"):
        found(path, class_names=("Mass", "Effusion", "Hernia"), conditions=("Efusion",))
    with pytest.raises(DataError, match=r"3 labels an image, but there are 2 class names: .*data\.class_names"):
        found(path, class_names=("Mass", "Effusion"))


def test_a_measured_value_and_findings_in_texts_are_numbers(tmp_path: Path) -> None:
    path, rejected = tmp_path / "a.npz", list[Rejected]()
    np.savez(path, images=stack(3, 8, 8), labels=np.array([63.5, np.nan, 20]))
    records = list(medmnist.records(medmnist.Settings(path=path, conditions=("label",)), rejected))
    assert [record.conditions for record in records] == [{"label": 63.5}, {"label": 20}]
    assert [line.path for line in rejected] == ["images/000001"] and "no number for label" in rejected[0].reason
    assert all(record.header and "data.conditions=[label]" in record.header.notes[-1] for record in found(path))
    texts = np.array([["Mass|Effusion"], ["No Finding"], ["Mass"]])
    np.savez(path, train_images=stack(3, 8, 8), train_labels=texts, test_images=stack(1, 8, 8), test_labels=texts[1:2])
    records = found(path, conditions=("Effusion", "Mass"))
    assert [tuple(record.conditions.values()) for record in records] == [(1, 1), (0, 0), (0, 1), (0, 0)]
    assert [record.label for record in found(path)][:2] == ["Mass|Effusion", "No Finding"]


def test_plain_images_labels_masks_names(tmp_path: Path) -> None:
    masks = (stack(3, 8, 8) > 99).astype(np.uint8)
    np.savez(
        tmp_path / "a.npz", images=stack(3, 8, 8), labels=np.array([1, 0, 1]), classes=np.array(["Hand", "Head"]),
        masks=masks, names=np.array(["patient003_frame01", "patient003_frame02", "patient004_frame01"]),
    )  # fmt: skip
    records = found(tmp_path / "a.npz")
    assert [record.label for record in records] == ["Head", "Hand", "Head"]
    assert [record.patient for record in records] == ["patient003", "patient003", "patient004"]
    names = np.array(["patient12slice3", "Patient12slice4"])
    np.savez(tmp_path / "together.npz", images=stack(2, 8, 8), names=names)
    assert {record.patient for record in found(tmp_path / "together.npz")} == {"patient12"}
    assert {record.split for record in records} == {None} and np.array_equal(records[1].load().mask, masks[1])
    np.savez(tmp_path / "b.npz", images=stack(3, 8, 8), masks=masks.astype(np.int16) * 300)
    with pytest.raises(RejectedFile, match="labels are 0 to 255"):
        found(tmp_path / "b.npz")[0].load()


def test_images_of_nobody_knows_which_patient_are_noted_where_patients_are_divided(tmp_path: Path) -> None:
    names = np.array(["A17_03", "A17_04", "patient5"])
    np.savez(tmp_path / "named.npz", images=stack(3, 8, 8), names=names)
    np.savez(tmp_path / "bare.npz", images=stack(3, 8, 8))
    assert [len(record.header.notes) for record in found(tmp_path / "named.npz") if record.header] == [1, 1, 0]
    assert [len(record.header.notes) for record in found(tmp_path / "bare.npz") if record.header] == [1, 1, 1]
    own = found(tmp_path / "named.npz", patient_pattern="(?P<patient>[A-Z][0-9]+)_|patient5")
    assert own[0].patient == own[1].patient == "a17"
    assert not any(record.header.notes for record in found(official(tmp_path / "m.npz")) if record.header)
    assert not any(one.header.notes for one in found(tmp_path / "bare.npz", patient_pattern="") if one.header)


def test_what_does_not_fit_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=stack(3, 8, 8), labels=np.arange(2))
    with pytest.raises(DataError, match="3 images, labels"):
        found(path)
    np.savez(path, images=stack(3, 8, 8), labels=np.arange(3), classes=np.array(["a", "b"]))
    with pytest.raises(DataError, match=r"2 class names: data\.class_names needs"):
        found(path)
    np.savez(path, t1=stack(5, 8, 8))
    assert recognise(path) == "folder" and len(list(folder.records(folder.Settings(path=path), []))) == 5
    with pytest.raises(DataError, match="needed are train_images"):
        found(path)
    np.savez(path, images=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        found(path)
    with pytest.raises(DataError, match="does not exist"):
        found(tmp_path / "nowhere.npz")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((300, 200, 200), np.uint8))
    with pytest.raises(DataError, match="bomb"):
        found(tmp_path / "a.npz")


def test_a_damaged_archive_is_one_clear_error(tmp_path: Path) -> None:
    path = official(tmp_path / "a.npz", (30, 30))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("train_images.npy").header_offset
    content[start + 400 : start + 500] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be u"):
        found(path)


def test_a_constant_image_is_rejected(tmp_path: Path) -> None:
    images = stack(3, 8, 8)
    images[1] = 9
    np.savez(tmp_path / "a.npz", images=images)
    with pytest.raises(RejectedFile, match="value 9"):
        found(tmp_path / "a.npz")[1].load()


def test_real_files(shared_data: Path) -> None:
    records = found(shared_data / "pneumoniamnist.npz")
    assert [sum(record.split == split for record in records) for split in ("train", "validation", "test")] == [
        4708,
        524,
        624,
    ]
    assert len({record.patient for record in found(shared_data / "acdc_slices_128.npz")}) == 70
    assert {record.label for record in found(shared_data / "mednist_64.npz")} >= {"HeadCT", "CXR"}


FLAT = {
    "pathmnist": (3, 9), "chestmnist": (1, 0), "dermamnist": (3, 7), "octmnist": (1, 4), "pneumoniamnist": (1, 2),
    "retinamnist": (3, 5), "breastmnist": (1, 2), "bloodmnist": (3, 8), "tissuemnist": (1, 8), "organamnist": (1, 11),
    "organcmnist": (1, 11), "organsmnist": (1, 11),
}  # fmt: skip
DEEP = ("organmnist3d", "nodulemnist3d", "adrenalmnist3d", "fracturemnist3d", "vesselmnist3d", "synapsemnist3d")
FILES = [(name, (size, size), *FLAT[name]) for name in FLAT for size in (28, 64, 128, 224)]
FILES += [(name, (size, size, size), 1, 2) for name in DEEP for size in (28, 64)]


@pytest.mark.parametrize("name, space, channels, classes", FILES)
def test_every_published_file(
    name: str, space: tuple[int, ...], channels: int, classes: int, tmp_path: Path
) -> None:
    """MedMNIST v2 and MedMNIST+ (Yang et al. 2023): names, sizes, colours, labels (14 columns in ChestMNIST)."""
    shape = (*space, 3) if channels == 3 else space
    arrays = {}
    for number, part in enumerate(("train", "val", "test")):
        ramp = (np.arange(int(np.prod(shape))) + number).astype(np.uint8).reshape(1, *shape)
        arrays[f"{part}_images"] = ramp
        one = np.full((1, 1), number % max(classes, 1))
        many = np.eye(1, 14, number, dtype=np.uint8) * np.uint8(number > 0)  # some images have no finding
        arrays[f"{part}_labels"] = one if classes else many
    suffix = "" if space[0] == 28 else f"_{space[0]}"
    path = tmp_path / f"{name}{suffix}.npz"
    np.savez(path, **arrays)
    assert recognise(path) == "medmnist"
    records = found(path)
    assert [record.split for record in records] == ["train", "validation", "test"]
    assert [record.label for record in records] == [str(n % classes) if classes else None for n in range(3)]
    image = records[1].load()
    assert image.space == space and len(image.pixels) == channels
    expected = np.moveaxis(arrays["val_images"][0], -1, 0) if channels == 3 else arrays["val_images"]
    np.testing.assert_array_equal(image.pixels, expected)

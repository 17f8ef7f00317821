"""Values are mapped once, and come back: bits, Hounsfield units, ranges of volumes and channels, colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from radsynth.arrays import Prepared
from radsynth.datasets import Record, folder
from radsynth.image import Image
from radsynth.verbs._preparing.ranges import percentiles
from radsynth.verbs.prepare import prepare
from tests.prepare.records import Prepare, everything, picture, record, rejections, with_options


def test_eight_bit_pictures_stay_as_they_are(from_records: Prepare) -> None:
    prepared = from_records([record(n) for n in range(5)], size=[20, 20])
    expected = np.stack([picture(n).pixels for n in range(5)])
    np.testing.assert_array_equal(everything(prepared), expected)
    assert (prepared.intensity.method, prepared.intensity.levels, prepared.spec.bits) == ("bits", 255, 8)


def test_sixteen_bits_survive_from_a_png(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    values = np.random.default_rng(0).integers(0, 3900, (4, 24, 24), dtype=np.uint16)
    for number, image in enumerate(values):
        PIL.Image.fromarray(image).save(source / f"{number}.png")
    prepared = prepare(folder.Settings(path=source), tmp_path / "out", settings=with_options(size=[24, 24]), workers=1)
    np.testing.assert_array_equal(everything(prepared)[:, 0], values)
    assert prepared.intensity.levels == 4095, "12 bits in 16 fill the network's range"
    back = prepared.intensity.decode(prepared.images(np.arange(4)))
    np.testing.assert_allclose(back[:, 0], values, atol=0.01)


def test_hounsfield_units_come_back_within_half_a_step(from_records: Prepare) -> None:
    values = np.random.default_rng(0).integers(-1024, 1501, (3, 1, 32, 32)).astype(np.int16)
    records = [record(n, Image(pixels=v, modality="CT", units="HU", bits=16)) for n, v in enumerate(values)]
    prepared = from_records(records, size=[32, 32])
    back = prepared.intensity.decode(prepared.images(np.arange(3)))
    step = (1500 + 1024) / 65535
    assert prepared.intensity.method == "window" and everything(prepared).dtype == np.uint16
    assert np.abs(back - values).max() <= step / 2 + 2e-4, "half a step and float32's own rounding"


def test_the_slices_of_a_volume_share_their_range_and_volumes_do_not(from_records: Prepare) -> None:
    def slice_of(volume: int, number: int) -> Record:
        pixels = np.random.default_rng(volume * 9 + number).integers(0, 100 * (volume + 1) * (number + 1), (1, 16, 16))
        image = Image(pixels=pixels.astype(np.uint16), modality="MR", bits=12)
        return record(
            volume * 9 + number, image, patient="one", files=(f"{__file__}", str(volume))[:1], label=str(volume)
        )

    records = [slice_of(0, number) for number in range(4)]
    records += [Record(**{**vars(slice_of(1, number)), "patient": "two"}) for number in range(4)]
    prepared = from_records(records, size=[16, 16], shard=3)
    ranges = [(row.low, row.high) for row in prepared.rows]
    assert len(set(ranges)) == 2 and len(set(ranges[:4])) == 1
    expected = np.percentile(np.stack([r.load().pixels for r in records[:4]]), (0.5, 99.5))
    np.testing.assert_allclose(ranges[0], expected)
    assert prepared.intensity.high == np.median([high for _, high in ranges])
    assert everything(prepared)[:4].max() == 65535 and everything(prepared)[0].max() < 30000, "slice 0 is the darkest"


def test_each_channel_of_mr_fills_the_range(from_records: Prepare) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (2, 16, 16)).astype(np.uint16) * np.array(
        [[[1]], [[30]]], np.uint16
    )
    image = Image(pixels=pixels, modality="MR", bits=12, channels=("t1", "t2"))
    stored = everything(from_records([record(0, image)], size=[16, 16]))[0]
    assert stored[0].max() == stored[1].max() == 65535 and stored.min() == 0


def test_each_channel_of_several_has_its_own_range(from_records: Prepare) -> None:
    """CT and PET: what was learned of the second comes back as such. A patient without it does not count."""
    rng = np.random.default_rng(0)
    pairs = [np.stack([rng.uniform(-1000, 80, (16, 16)), rng.uniform(0, 9, (16, 16)) * (n > 2)]) for n in range(5)]
    records = [record(n, Image(pixels=pair.astype(np.float32), bits=32, channels=("ct", "pet")))
               for n, pair in enumerate(pairs)]
    intensity = Prepared(from_records(records, size=[16, 16]).folder).intensity  # as read
    ct, pet = intensity.ranges
    assert ct == (intensity.low, intensity.high) and -1000 <= ct[0] < -900 and 60 < ct[1] <= 80
    assert 0 <= pet[0] < 0.5 and 8 < pet[1] <= 9
    assert intensity.span == (ct[0], ct[1])
    assert from_records([record(n) for n in range(5)], "grey", size=[20, 20]).intensity.ranges == ()


def test_colour_is_kept_or_made_grey(from_records: Prepare) -> None:
    colour = Image(
        pixels=np.stack([np.full((8, 8), v, np.uint8) for v in (250, 100, 0)]), channels=("red", "green", "blue")
    )
    colour.pixels[:, 0, 0] = 0
    assert from_records([record(0, colour)], "rgb", size=[8, 8]).spec.channels == ("red", "green", "blue")
    grey = from_records([record(0, colour), record(1, picture(1, (8, 8)))], "grey", size=[8, 8], channels="grey")
    assert grey.spec.channels == ("grey",) and everything(grey)[0, 0, 4, 4] == round(0.2126 * 250 + 0.7152 * 100)
    shares = colour.replace(pixels=np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8), bits=32)
    assert len(np.unique(shares.grey().pixels)) == 64, "floating point is not rounded to black and white"
    named = from_records([record(0, colour.replace(channels=("a", "b", "c")))], "named", size=[8, 8], channels="grey")
    assert named.spec.channels == ("grey",), "three channels of any names, as groups of images are told apart"


def test_percentiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32):
        for number in range(50):
            values = rng.integers(0, 100, rng.integers(1, 300)) * (1 if number % 2 else 20000)
            values = (values - 50).astype(dtype)
            for wanted in ((0.5, 99.5), (0.0, 100.0), (13.1, 52.3)):
                wide = values if dtype == np.float32 else values.astype(np.int64)  # numpy's steps overflow in 8 bits
                np.testing.assert_array_equal(percentiles(values, wanted), np.percentile(wide, wanted))


def test_values_beyond_the_stored_bits_are_told_and_not_clipped(from_records: Prepare) -> None:
    """Files scale what they store: 12,000 times 10 is more than 16 bits hold."""
    scaled = [picture(n, bits=16) for n in range(4)]
    scaled[3] = scaled[3].replace(pixels=scaled[3].pixels.astype(np.int32) * 10)
    records = [record(n, image) for n, image in enumerate(scaled)]
    told = rejections(from_records(records, "bits", intensity="bits"))["file003"]
    assert "beyond the 65535 that the stored bits hold; choose prepare.intensity=percentiles" in told
    assert not rejections(from_records(records, "percentiles", intensity="percentiles"))

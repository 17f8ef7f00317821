"""Writes the shards of a prepared folder: one call makes one shard from its records alone, in any process.

A shard is whole when its NNNNN.json is there: it is written last, and holds what is known of each image.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth._rounding import rounded
from radsynth.arrays import IntensityMap
from radsynth.datasets import EmptySlice, Record
from radsynth.errors import RejectedFile
from radsynth.files import write_atomically
from radsynth.image import Image, Kind, Layout, as_tuples
from radsynth.io._geometry import directions_of
from radsynth.verbs._preparing.ct_window import ct_window, has_hounsfield
from radsynth.verbs._preparing.few_values import has_few_values
from radsynth.verbs._preparing.fit import Fit, as_it_is, plan_fit, resample, resample_mask
from radsynth.verbs._preparing.instances import inside_and_border
from radsynth.verbs._preparing.patches import FLAT, patch_of
from radsynth.verbs._preparing.ranges import ranges

KEEP_VALUES = 2**26
"""Pixel values of one volume's slices that are kept in memory between measuring and writing (256 MB as float32)."""

SAMPLE = 2**22
"""Pixel values from which percentiles are taken; more are thinned out evenly."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done to every image of a data set; decided once, before any pixel is read.

    channels, modality, units, kinds: what every image must have; percentiles, crop, enlarge, spacing, grey: as in the
    settings
    instances: masks number things, and become their inside and border
    """

    size: tuple[int, ...]
    intensity: IntensityMap
    channels: int
    modality: str
    units: str
    percentiles: tuple[float, float]
    crop: bool
    enlarge: bool
    grey: bool
    instances: bool = False
    kinds: tuple[Kind, ...] = ()
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What became of one record. `reason` is empty for an image that is in the shard, at `row`.

    ranges: low and high of each of several channels, None of a blank one; () where they share them
    pixels: SHA-256 of the source's pixels; top: largest stored value; spacing: mm of the target's pixels
    mask_values: label values in the mask, None without a mask; directions, window, laid, flat: as in `Image`
    skipped: left out on purpose, nothing is wrong with it; few_values: see `has_few_values`
    """

    reason: str = ""
    skipped: bool = False
    row: int = -1
    low: float = 0.0
    high: float = 0.0
    ranges: tuple[tuple[float, float] | None, ...] = ()
    top: int = 0
    mask_values: tuple[int, ...] | None = None
    bits: int = 8
    channels: tuple[str, ...] = ()
    spacing: tuple[float, ...] | None = None
    directions: tuple[float, ...] | None = None
    window: tuple[float, ...] | None = None
    laid: Layout | None = None
    flat: bool = False
    pixels: str = ""
    few_values: bool = False


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A finished shard: an entry for each of its records, and the SHA-256 of its arrays."""

    entries: tuple[Entry, ...]
    digests: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Shard | None:
        """A shard finished before; None when it is not there or damaged, so that it is made again."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            lists: list[Any] = [{key: as_tuples(value) for key, value in e.items()} for e in document["entries"]]
            whole = all(
                hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == digest
                for name, digest in document["digests"].items()
            )
            return cls(entries=tuple(Entry(**e) for e in lists), digests=document["digests"]) if whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def make_shards(folder: Path, chunks: Mapping[int, Sequence[Record]], plan: Plan) -> list[Shard]:
    """`make_shard` of each number and its records, one after another in one process."""
    return [make_shard(folder, number, records, plan) for number, records in chunks.items()]


def make_shard(folder: Path, number: int, records: Sequence[Record], plan: Plan) -> Shard:
    """Load, fit, encode and write the records of one shard. FolderError when it cannot be written.

    Neighbouring records of the same files (of the same patient where there are none) are one volume: where intensities
    are mapped by percentiles they share their range.
    """
    entries: list[Entry] = []
    images: list[NDArray[Any]] = []
    masks: list[NDArray[np.uint8]] = []
    for _, group in groupby(records, key=volume_of):
        for entry, image, mask in _volume(list(group), plan):
            if not entry.reason:
                entry = replace(entry, row=len(images))
                images.append(image)
                masks.append(mask)
            entries.append(entry)
    digests = {}
    if images:
        digests[f"{number:05d}.images.npy"] = _save(folder / f"{number:05d}.images.npy", np.stack(images))
    if any(entry.mask_values is not None for entry in entries):
        digests[f"{number:05d}.masks.npy"] = _save(folder / f"{number:05d}.masks.npy", np.stack(masks))
    document = {"entries": [vars(entry) for entry in entries], "digests": digests}
    write_atomically(folder / f"{number:05d}.json", json.dumps(document))
    return Shard(entries=tuple(entries), digests=digests)


def probe(record: Record, plan: Plan) -> str:
    """What loading a record gives in this process: radsynth's version, and the pixels' hash or why there are none."""
    loaded = load(record, plan)
    outcome = loaded.reason if isinstance(loaded, Entry) else f"pixels {_digest(loaded.pixels)[:16]}"
    return f"radsynth {metadata.version('radsynth')}, {outcome}"


def volume_of(record: Record) -> tuple[str, tuple[str, ...]]:
    """What records of the same volume have in common."""
    return record.patient, record.files


def is_slice(record: Record) -> bool:
    """Is it one of many slices of a volume, which is decoded and kept as a whole? Frames and patches are not."""
    return record.corner is None and (record.header is None or record.header.frames == 1)


def _save(path: Path, values: NDArray[Any]) -> str:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    content = buffer.getvalue()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


Item = tuple[Entry, NDArray[Any], NDArray[np.uint8]]


Loaded = tuple[Image | Entry, float]
"""An image, or why it cannot be used; and how far its values span."""


def _volume(records: list[Record], plan: Plan) -> Iterator[Item]:
    """The entries, arrays and masks of one volume's records."""
    if plan.intensity.method != "percentiles":
        for record, loaded in zip(records, _loaded(records, plan), strict=True):
            yield _encode(loaded, record, plan, None)
        return
    kept: list[Loaded] = []
    samples: list[NDArray[Any]] = []
    thin, values, last = len({id(record.load) for record in records}), 0, None
    for loaded in _loaded(records, plan):
        image = loaded[0]
        if isinstance(image, Image) and image is not last:
            flat = image.pixels.reshape(len(image.pixels), -1)
            samples.append(flat[:, :: max(1, flat.size * thin // SAMPLE)].copy())
            values += flat.size
        if values <= KEEP_VALUES:
            kept.append(loaded)
        last = image
    found = ranges(samples, plan.percentiles) if samples else None
    for record, loaded in zip(records, kept if values <= KEEP_VALUES else _loaded(records, plan), strict=True):
        yield _encode(loaded, record, plan, found)


def _loaded(records: list[Record], plan: Plan) -> Iterator[Loaded]:
    """What each record loads; patches of one image follow each other and share it."""
    last: Record | None = None
    loaded: Loaded = (Entry(), 0.0)
    for record in records:
        if last is None or record.load is not last.load:
            image = load(record, plan)
            loaded = image, 0.0 if isinstance(image, Entry) else float(image.pixels.max()) - float(image.pixels.min())
        last = record
        yield loaded


def _rejected(entry: Entry) -> Item:
    return entry, np.empty(0), np.empty(0, np.uint8)


def load(record: Record, plan: Plan) -> Image | Entry:
    """The image with the plan's channels, or why it cannot be used."""
    try:
        image = record.load()
        return _checked(image.grey() if plan.grey else image, plan)
    except EmptySlice as error:
        return Entry(reason=str(error), skipped=True)
    except RejectedFile as error:
        return Entry(reason=str(error))
    except Exception as error:  # decoders of many packages raise anything; one bad file must not end the whole
        return Entry(reason=f"it cannot be decoded: {type(error).__name__}: {error}")


def _checked(image: Image, plan: Plan) -> Image:
    if len(image.pixels) != plan.channels or len(image.space) != len(plan.size):
        raise RejectedFile(
            f"it has {len(image.pixels)} channels and {len(image.space)} dimensions; the data has "
            f"{plan.channels} and {len(plan.size)}"
        )
    if image.pixels.dtype.kind == "f":
        finite = np.isfinite(image.pixels)
        if not finite.any():
            raise RejectedFile("it has no finite value")
        if not finite.all():  # outside of the field of view of some scanners; background is what it shows
            image = image.replace(pixels=np.where(finite, image.pixels, image.pixels[finite].min()))
    low, high = image.pixels.min(), image.pixels.max()
    if low == high:
        raise RejectedFile(f"all its pixels have the value {low}")
    if plan.intensity.method == "bits" and low < 0:
        raise RejectedFile(f"it has stored values down to {low}; choose prepare.intensity=percentiles for such data")
    if plan.intensity.method == "bits" and high > plan.intensity.high:  # the file scales what it stores
        raise RejectedFile(f"it has values up to {rounded(high)}, beyond the {plan.intensity.high:.0f} that the stored "
                           "bits hold; choose prepare.intensity=percentiles for such data")
    values = f"its values, {rounded(low)} to {rounded(high)},"
    dark, bright = plan.intensity.span
    window = f"the window {rounded(dark)} to {rounded(bright)} {plan.units}"
    if plan.intensity.method == "window" and (high <= dark or low >= bright):
        raise RejectedFile(f"{values} lie outside of {window}")
    step = (bright - dark) / plan.intensity.levels
    if plan.intensity.method == "window" and float(high) - float(low) < step:
        raise RejectedFile(f"{values} become one grey in {window}; choose a narrower prepare.window")
    return image


def _encode(loaded: Loaded, record: Record, plan: Plan, spans: NDArray[np.float64] | None) -> Item:
    image, span = loaded
    if isinstance(image, Entry):
        return _rejected(image)
    if record.corner is None:
        fit = plan_fit(image.space, plan.size, image.spacing, crop=plan.crop, enlarge=plan.enlarge,
                       wanted=plan.spacing)
    else:
        image = patch_of(image, record.corner, plan.size)
        if not image.pixels.size:
            return _rejected(Entry(reason="it is smaller than its header says"))
        if float(image.pixels.max()) - float(image.pixels.min()) < FLAT * span:
            return _rejected(Entry(reason="a patch that shows nothing", skipped=True))
        fit = as_it_is(image.space, plan.size, image.spacing)
    values = resample(image.pixels, fit)
    intensity = plan.intensity
    if spans is None:
        stored = np.stack([own.encode(v) for own, v in zip(intensity.of_channels(len(values)), values, strict=True)])
        low, high = intensity.low, intensity.high
    else:
        stored = np.stack([intensity.encode(v, *r) for v, r in zip(values, spans.tolist(), strict=True)])
        low, high = spans[0].tolist()
    framed = np.zeros_like(stored)
    inside = (slice(None), *fit.inside)
    framed[inside] = stored[inside]
    mask = np.zeros(plan.size, np.uint8) if image.mask is None else resample_mask(image.mask, fit)
    mask = inside_and_border(mask) if plan.instances else mask
    entry = Entry(
        low=low,
        high=high,
        ranges=() if spans is None or len(spans) == 1 else tuple(
            None if channel.min() == channel.max() else (low, high)
            for channel, (low, high) in zip(image.pixels, spans.tolist(), strict=True)),
        top=int(framed.max()),
        mask_values=None if image.mask is None else tuple(np.unique(mask).tolist()),
        bits=image.bits,
        channels=image.channels,
        spacing=_spacing(image, fit),
        directions=None if image.affine is None else directions_of(image.affine),
        window=ct_window(values[inside], image.window) if has_hounsfield(image) else image.window,
        laid=image.laid,
        flat=image.flat,
        pixels=_digest(image.pixels),
        few_values=has_few_values(image.pixels),
    )
    return entry, framed, mask


def _spacing(image: Image, fit: Fit) -> tuple[float, ...] | None:
    return None if image.spacing is None else tuple(round(step, 6) for step in fit.spacing)


def _digest(pixels: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()

"""inspect: what is in the data, what is wrong with it, what would be done. Headers of all files, pixels of a sample."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mode
from typing import Any

import numpy as np

from radsynth.arrays import spread
from radsynth.datasets import EmptySlice, Record, Rejected, dataset
from radsynth.datasets._volumes import as_modality
from radsynth.errors import RejectedFile
from radsynth.files import check_writable, write_atomically
from radsynth.image import Image, all_grey_in_colour
from radsynth.io import Header
from radsynth.progress import track
from radsynth.settings import Resolved
from radsynth.verbs._given import given
from radsynth.verbs._inspecting.alike_names import alike_names
from radsynth.verbs._inspecting.duplicates import equal_files
from radsynth.verbs._inspecting.expected import expected
from radsynth.verbs._inspecting.inspection import Inspection, Intensity
from radsynth.verbs._inspecting.mask_notes import FEW_VALUES, mask_notes
from radsynth.verbs._inspecting.page import page, settings_file, thumbnail
from radsynth.verbs._inspecting.uncertain import uncertain
from radsynth.verbs._preparing.conversions import conversions, in_words
from radsynth.verbs._preparing.extra import extra_records
from radsynth.verbs._preparing.few_values import has_few_values
from radsynth.verbs._preparing.groups import groups_of, mixture
from radsynth.verbs._preparing.options import Settings as PrepareSettings
from radsynth.verbs._preparing.options import check
from radsynth.verbs._preparing.split import torn
from radsynth.verbs._rejected import by_file, nothing_left, write_rejected

SAMPLE = 64
"""Images whose pixels are read."""

SAMPLE_BYTES = 1_000_000_000
"""Bytes of files behind the sample, so that large volumes do not make `inspect` slow; at least FEWEST are read."""

FEWEST = 4

REGRIDDED = ("a mask, or a contrast, on another grid than its image, or contours that leave slices out (of those "
             "looked at): brought onto that grid as headers say, of masks the nearest pixel's label, between contours "
             "the shape between them. Nothing is registered: look whether it fits")
FILLED = ("NaN around what is shown (of those looked at): read as background, which is 0, or the lowest value where "
          "there are values below 0")

AIRLESS = "values (of those looked at) are mapped as Hounsfield units, of which air is -1000, but none lies below 0"
NO_AIR = (f"{AIRLESS}. prepare.window=[LOW, HIGH] gives all greys to the values that there are, and "
          "prepare.intensity=percentiles maps what is on another scale")
SOME_NO_AIR = f"{AIRLESS}, unlike in the other images: these may be no CT. Leave such files out"


def inspect(data: Path | str | Any, *, settings: Resolved | None = None, overrides: Sequence[str] = (),
            out: Path | None = None) -> Inspection:
    """Look at `data`: a path, or the settings of a data set. With `out`, write inspect.html and inspection.json there.

    settings.yaml there has what `run` would choose, for the single steps.

    settings: all of them, resolved; or instead overrides, such as ["data.labels=my.csv"]. The kind of a path is
    recognised unless they say it. rejected.csv there lists every file that cannot be used. DataError when there is no
    image that can be used.
    """
    path = Path(data) if isinstance(data, str | Path) else None
    settings = settings or given(("data", "prepare"), overrides, data=path)
    source: Any = data if path is None else settings.section("data")
    if out is not None:
        check_writable(out)
    found = look_at(source, settings)
    if not found.mixed:
        found = _planned(found, settings)
    if out is not None:
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "inspection.json", json.dumps(found.to_json(), indent=1))
        write_atomically(out / "inspect.html", page(found))
        write_rejected(out / "rejected.csv", (*found.rejected, *found.skipped))
        if found.planned:
            write_atomically(out / "settings.yaml", settings_file(found))
    return found


def look_at(source: Any, given: Resolved) -> Inspection:
    """What is in a data set, described by its settings, under the settings that were given for it; without a plan."""
    options = given.section("prepare", PrepareSettings)
    check(options)
    module = dataset(source.kind)
    rejected: list[Rejected] = []
    records = list(module.records(source, rejected))
    extra = extra_records(options.extra.absolute(), records, source, rejected) if options.extra else []
    samples, broken = _sample(records)
    more, unusable = _sample(extra) if extra else ([], [])
    found = _gather(str(getattr(source, "path", source.kind)), source.kind, records, samples,
                    [*rejected, *broken, *unusable])
    found = replace(found, virtual=bool(getattr(module, "VIRTUAL", False)), added=len(extra),
                    notes={**found.notes, **alike_names(records, source), **uncertain(records)})
    if options.masks in ("auto", "all"):
        masks = [image.mask for _, image in samples if image is not None and image.mask is not None]
        found = replace(found, notes={**found.notes, **mask_notes(records, masks)})
    records, samples = records + extra, samples + more
    if found.grey_in_colour and "channels" not in given.given("prepare"):
        options = replace(options, channels="grey")
    known = [(record, record.header) for record in records if record.header is not None]
    found = replace(found, ct_by_values=not getattr(source, "modality", "none") and _ct_by_values(known, samples))
    if found.ct_by_values:
        known = [(record, as_modality(header, "CT")) for record, header in known]
    groups = groups_of(options, known)
    converted = conversions(known)
    found = replace(found, mixed=mixture(groups, converted) or torn(records, options.official))
    if converted and len(groups) == 1:
        found = replace(found, notes={**found.notes, in_words(): len(converted)})
    if not found.mixed:
        images = [image for _, image in samples if image is not None]
        group = next(iter(groups), None)
        spec = expected(records, images, group, options, found.median_size) if group else None
        found = replace(found, spec=spec, mapping=group.method if group else "")
        airless = sum(int(image.pixels.min() >= 0) for image in images)
        if found.mapping == "window" and options.window[0] < 0 and airless:
            told = NO_AIR if airless == len(images) else SOME_NO_AIR
            found = replace(found, notes={**found.notes, told: airless})
    return found


def _sample(records: list[Record]) -> tuple[list[tuple[Record, Image | None]], list[Rejected]]:
    """(record, image) of up to SAMPLE records spread evenly, as many of them with masks as without, and of each number
    of channels; None for an empty slice; and what cannot be decoded."""
    kinds: dict[tuple[bool, int], list[Record]] = defaultdict(list)
    for record, bare in zip(records, _bare(records), strict=True):
        kinds[bare, record.header.channels if record.header else 0].append(record)
    count = max(1, SAMPLE // (len(kinds) or 1))
    chosen = [some[index] for _, some in sorted(kinds.items()) for index in spread(len(some), count)]
    samples: list[tuple[Record, Image | None]] = []
    broken, seen, read = [], set[str](), 0
    for record in track(chosen, len(chosen), "reading a sample", "images"):
        new = [file for file in record.files if file not in seen]
        read += sum(Path(file).stat().st_size for file in new if Path(file).exists())
        if len(samples) >= FEWEST and read > SAMPLE_BYTES:
            break
        seen.update(new)
        try:
            samples.append((record, record.load()))
        except EmptySlice:
            samples.append((record, None))
        except RejectedFile as error:
            broken.append(Rejected(path=record.source, reason=str(error)))
    return samples, by_file(broken, (record.source for record in chosen))


def _ct_by_values(known: list[tuple[Record, Header]], samples: list[tuple[Record, Image | None]]) -> bool:
    """Whether no header of the data's own tells a modality and every sampled image is CT by its values."""
    read = [image for _, image in samples if image is not None]
    return bool(read) and all(image.units == "HU" for image in read) and all(
        header.modality == "OT" or (record.added and header.modality == "CT") for record, header in known)


def _bare(records: list[Record]) -> list[bool]:
    """Whether each record lacks a mask where others have one."""
    some = any(record.masks for record in records)
    return [some and not record.masks for record in records]


def _gather(
    data: str, kind: str, records: list[Record], samples: list[tuple[Record, Image | None]], rejected: list[Rejected]
) -> Inspection:
    images = [image for _, image in samples if image is not None]
    headers = [record.header for record in records if record.header is not None] or [
        Header.of(image, "none") for image in images
    ]
    if not headers:
        raise nothing_left(rejected)
    known = [header.modalities for header in headers if header.modalities != "OT"]
    modalities = Counter(known or [image.modality for image in images] or ["OT"])
    modality = modalities.most_common(1)[0][0]
    units = mode([image.units for image in images if image.modality == modality] or ["stored"])
    dimensions = mode(len(header.size) for header in headers)
    sizes = [header.size for header in headers if len(header.size) == dimensions]
    spacings = [header.spacing for header in headers if header.spacing and len(header.spacing) == dimensions]
    masks = [image.mask for image in images if image.mask is not None]
    values = np.unique(np.concatenate([np.unique(mask) for mask in masks])) if masks else np.zeros(0, np.uint8)
    with_masks = {record.patient for record, bare in zip(records, _bare(records), strict=True) if masks and not bare}
    notes = Counter(note for header in headers for note in header.notes)
    if moved := sum(image.regridded for image in images):
        notes[REGRIDDED] = moved
    if filled := sum(image.filled for image in images):
        notes[FILLED] = filled
    if (few := sum(has_few_values(image.pixels) for image in images)) > 1:  # one may be the dark end of a volume
        notes[FEW_VALUES] = few
    return Inspection(
        data=data,
        kind=kind,
        n_images=len(records),
        n_patients=len({record.patient for record in records}),
        modality=modality,
        channels=mode(header.channels for header in headers),
        dimensions=dimensions,
        median_size=tuple(int(side) for side in np.median(sizes, axis=0)),
        bits=max(header.bits for header in headers),
        units=units,
        virtual=False,
        spacing=tuple(float(step) for step in np.median(spacings, axis=0)) if spacings else None,
        labels=dict(sorted(Counter(record.label for record in records if record.label is not None).items())),
        splits=_counts(record.split for record in records if record.split),
        formats=_counts(header.format for header in headers),
        modalities=dict(modalities.most_common()),
        sizes=_counts(" x ".join(map(str, header.size)) for header in headers),
        bits_found=_counts(str(header.bits) for header in headers),
        grey_in_colour=all_grey_in_colour(images),
        masks=tuple(int(value) for value in values),
        unmasked=sum(_bare(records)),
        masked_patients=len(with_masks),
        mask_names=dict(next((record.mask_names for record in records if record.mask_names), {})),
        series=_counts(header.series for header in headers if header.series),
        empty_slices=len(samples) - len(images),
        intensity=_intensity(images),
        notes=dict(notes.most_common()),
        duplicates=equal_files(records),
        rejected=tuple(line for line in rejected if not line.skipped),
        skipped=tuple(line for line in rejected if line.skipped),
        pictures=tuple(thumbnail(record, image) for record, image in samples if image is not None),
    )


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _intensity(images: list[Image]) -> Intensity | None:
    if not images:
        return None
    each = max(1000, 4_000_000 // len(images))
    values = np.concatenate([image.pixels.ravel()[:: max(1, image.pixels.size // each)] for image in images]).astype(
        np.float64
    )
    tops = [float(np.percentile(image.pixels, 99)) for image in images]
    low, high = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, bins=64, range=(low, high if high > low else low + 1))
    first, middle, last = (float(value) for value in np.percentile(values, (1, 50, 99)))
    return Intensity(
        images=len(images),
        low=low,
        high=high,
        percentiles=(first, middle, last),
        tops=(float(np.median(tops)), max(tops)),
        usual_tops=(float(np.percentile(tops, 5)), float(np.percentile(tops, 95))),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def _planned(found: Inspection, given: Resolved) -> Inspection:
    """The inspection with what `run` would choose."""
    from radsynth.choices import ASKED, as_given
    from radsynth.verbs._choosing import asked_budget, choices, told_of_modality

    budget = asked_budget(given)
    task = given.given("task").get("kind")
    asked = [{"setting": "task.kind", "value": task, "reason": ASKED}] if task else []
    planned = as_given(choices(given, found, budget), lambda section, key: given.given(section).get(key))
    found_out = [asdict(choice) for choice in planned]
    found_out = asked + [choice for choice in found_out if not asked or choice["setting"] != "task.kind"]
    return replace(told_of_modality(found, given, budget), planned=tuple(found_out))

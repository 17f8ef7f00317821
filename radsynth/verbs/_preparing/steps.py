"""The steps of preparing: find images, decide what is done to all, make shards, decide what is used, split, finish."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mode
from typing import Any

from radsynth.arrays import IntensityMap, Prepared
from radsynth.datasets import EmptySlice, Record, Rejected, dataset
from radsynth.device import cores
from radsynth.errors import DataError, RadsynthError, RejectedFile
from radsynth.files import locked
from radsynth.io import Header
from radsynth.progress import Progress, tell
from radsynth.settings import Resolved
from radsynth.verbs._in_vain import in_vain, unused_by_split
from radsynth.verbs._preparing.chunks import LAYOUT, cut, together
from radsynth.verbs._preparing.conversions import conversions
from radsynth.verbs._preparing.conversions import in_words as conversion_in_words
from radsynth.verbs._preparing.extra import extra_records
from radsynth.verbs._preparing.filling import tell_of_size
from radsynth.verbs._preparing.groups import groups_of, mixture
from radsynth.verbs._preparing.options import Settings, check
from radsynth.verbs._preparing.outcome import decide
from radsynth.verbs._preparing.patches import cut_into
from radsynth.verbs._preparing.pool import ask_everywhere, run_all
from radsynth.verbs._preparing.preparation import preparation_of
from radsynth.verbs._preparing.prepared import Made, begin, check_free, finish, open_finished
from radsynth.verbs._preparing.shards import Plan, Shard, make_shards, probe
from radsynth.verbs._preparing.size import size_of
from radsynth.verbs._preparing.source import source_hash
from radsynth.verbs._preparing.split import split_of, torn
from radsynth.verbs._preparing.stray import doubtful, without_stray
from radsynth.verbs._rejected import in_words, nothing_left


def make_prepared(data: Any, out: Path, settings: Resolved, workers: int | None = None, cluster: str = "",
                  intensity: IntensityMap | None = None) -> Prepared:
    """Make the prepared folder `out` from `data`, the section that describes a data set; errors as of `prepare`.

    The folder is returned as it is where it was finished before. intensity: instead of what the settings say
    """
    options = settings.section("prepare", Settings)
    check(options)
    check_free(out)
    rejected = list[Rejected]()
    if cluster:
        data, out = _absolute(data), out.absolute()
    with _old_objects_left_alone():
        records = list(dataset(data.kind).records(data, rejected))
    if options.extra:
        records += extra_records(options.extra.absolute(), records, data, rejected)
    source = source_hash(data, options, records)
    finished = open_finished(out, source)
    if finished is not None:
        if options.strict and finished.manifest.rejected:
            raise DataError("prepare.strict is set and "
                            f"{in_words(finished.manifest.rejected, finished.spec.format == 'dicom')} cannot be used: "
                            f"{out}/rejected.csv says why.")
        return finished
    if problem := torn(records, options.official):
        raise DataError(problem)
    for line in in_vain(settings, unused_by_split(options, records), {}):
        tell(f"mind: {line}")
    _check_rejected(rejected, options.strict, records)
    known = [(record, facts) for record in records if (facts := _facts(record, rejected)) is not None]
    plan = _plan(options, known, rejected)
    plan = plan if intensity is None else replace(plan, intensity=intensity)
    if options.fit == "patches":
        known = cut_into(known, plan.size, options.patches)
    if cluster:
        _check_cluster(cluster, known[0][0], plan)
    with locked(out, f"{out} is being filled by another process. Wait for it, or choose another folder."):
        _fill(out, data, options, plan, known, rejected, source, cores() if workers is None else workers, cluster,
              preparation_of(settings))
    return Prepared(out)


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """The garbage collector looks only at what is made inside.

    Headers are many small objects: without this it walks through everything that torch and others have loaded again
    and again, a third of the time that the headers of plain slices take.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _fill(
    out: Path,
    data: Any,
    options: Settings,
    plan: Plan,
    known: Sequence[tuple[Record, Header]],
    rejected: list[Rejected],
    source: str,
    workers: int,
    cluster: str,
    preparation: dict[str, Any],
) -> None:
    """Make the shards and write the tables."""
    records = [record for record, _ in known]
    chunks = cut(records, plan, options.shard)
    salt = begin(out, f"{LAYOUT} {source}")
    shards = _make(out / "shards", chunks, plan, workers, cluster)
    entries = [entry for shard in shards for entry in shard.entries]
    virtual = bool(getattr(dataset(data.kind), "VIRTUAL", False))
    if options.masks == "auto" and not virtual:  # nobody made a slip in a virtual cohort
        entries = without_stray(records, entries)
        if text := doubtful(records, entries):
            tell(f"mind: {text}")
    outcome = decide(records, entries, rejected, masks=options.masks != "off")
    _check_rejected(outcome.rejected, options.strict, records)
    masked = [outcome.masks and entry.mask_values is not None for entry in entries]
    split = split_of(records, outcome.usable, masked, options.official,
                     (options.train, options.validation, _test_share(options)), options.split_seed)
    made = Made(
        plan=plan,
        shards=shards,
        records=records,
        outcome=outcome,
        split=split,
        salt=salt,
        source=source,
        format=mode(facts.format for _, facts in known),
        virtual=virtual,
        shard_size=options.shard,
        preparation=preparation,
    )
    finish(out, made)


def _test_share(options: Settings) -> float:
    """What is left for the test; 1 - 0.7 - 0.3 is no share, though not quite 0."""
    rest = 1 - options.train - options.validation
    return rest if rest > 1e-9 else 0.0


def _absolute(data: Any) -> Any:
    """The data's settings with a path that means the same in the working folder of another process."""
    return replace(data, path=Path(data.path).absolute()) if hasattr(data, "path") else data


def _check_cluster(cluster: str, first: Record, plan: Plan) -> None:
    """RadsynthError unless every worker loads the first image as this process does: same version, files and extras.

    Else a worker that lacks the disk or a decoder would reject images that others read.
    """
    here = probe(first, plan)
    for worker, there in ask_everywhere(cluster, probe, first, plan).items():
        if there != here:
            raise RadsynthError(
                f"The Dask worker {worker} does not load {first.source} as this process does: there '{there}', here "
                f"'{here}'. Workers need the same radsynth, the same extras and the same files under the same path "
                "(archives are unpacked into TMPDIR)."
            )


def _facts(record: Record, rejected: list[Rejected]) -> Header | None:
    """The record's header; without one the image is loaded for it. None, with a line in `rejected`, if that fails."""
    if record.header is not None:
        return record.header
    try:
        image = record.load()
    except EmptySlice:
        return None
    except RejectedFile as error:
        rejected.append(Rejected(path=record.source, reason=str(error)))
        return None
    return Header.of(image, "picture")


def _check_rejected(rejected: Sequence[Rejected], strict: bool, records: Sequence[Record]) -> None:
    wrong = [line for line in rejected if not line.skipped]
    if strict and wrong:
        lines = "".join(f"\n  {line.path}: {line.reason}" for line in wrong[:10])
        dicom = any(record.header and record.header.format == "dicom" for record in records)
        raise DataError(f"prepare.strict is set and {in_words(len(wrong), dicom)} cannot be used:{lines}")


def _plan(options: Settings, known: Sequence[tuple[Record, Header]], rejected: Sequence[Rejected]) -> Plan:
    """Decide what is done to every image."""
    if not known:
        raise nothing_left(rejected)
    groups, converted = groups_of(options, known), conversions(known)
    if len(groups) > 1:
        raise DataError(mixture(groups, converted))
    if converted:
        tell(f"mind: {len(converted):,} x {conversion_in_words()}")
    tell_of_size(options, [facts for _, facts in known])
    group = next(iter(groups))
    size = size_of(options.size, options.fit, [facts.size for _, facts in known],
                   [facts.spacing for _, facts in known])
    levels = 65535 if group.method == "window" or any(facts.bits > 8 for _, facts in known) else 255
    low, high = options.window if group.method == "window" else (0.0, float(levels))
    return Plan(
        size=size,
        intensity=IntensityMap(method=group.method, low=low, high=high, levels=levels),
        channels=group.channels,
        modality=group.modality,
        units=group.units,
        kinds=group.kinds,
        grey=options.channels == "grey",
        instances=options.masks == "instances",
        percentiles=options.percentiles,
        crop=options.fit == "crop",
        enlarge=options.enlarge,
        spacing=options.spacing,
    )


def _make(
    folder: Path, chunks: Sequence[Sequence[Record]], plan: Plan, workers: int, cluster: str
) -> list[Shard]:
    """Every shard: those that an earlier call finished are read, the others are made."""
    shards = {n: shard for n in range(len(chunks)) if (shard := Shard.read(folder / f"{n:05d}.json")) is not None}
    jobs = together([n for n in range(len(chunks)) if n not in shards], chunks)
    total, done = sum(map(len, chunks)), sum(len(chunks[n]) for n in shards)
    calls = [(folder, {number: chunks[number] for number in job}, plan) for job in jobs]
    with Progress(total, "preparing", "images", begun=done) as progress:
        for position, made in run_all(make_shards, calls, workers, cluster):
            shards.update(zip(jobs[position], made, strict=True))
            done += sum(len(chunks[number]) for number in jobs[position])
            progress.update(done)
    return [shards[n] for n in range(len(chunks))]

"""Prepares: images of any kind in, shards of fixed-size integer arrays with a manifest out.

The same command again goes on where it stopped, or returns the finished folder at once.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from radsynth.arrays import IntensityMap, Prepared
from radsynth.datasets import EmptySlice, Record, Rejected, dataset
from radsynth.errors import DataError, RadsynthError, RejectedFile, SettingsError
from radsynth.files import locked
from radsynth.io import Header
from radsynth.progress import Progress, tell
from radsynth.settings import Resolved, settings
from radsynth.verbs._given import given
from radsynth.verbs._preparing.chunks import LAYOUT, cut, together
from radsynth.verbs._preparing.extra import extra_records
from radsynth.verbs._preparing.groups import groups_of, mixture
from radsynth.verbs._preparing.patches import cut_into
from radsynth.verbs._preparing.pool import ask_everywhere, cores, run_all
from radsynth.verbs._preparing.preparation import preparation_of
from radsynth.verbs._preparing.prepared import Made, begin, check_free, decide, finish, open_finished
from radsynth.verbs._preparing.shards import Plan, Shard, make_shards, probe
from radsynth.verbs._preparing.size import size_of
from radsynth.verbs._preparing.source import source_hash
from radsynth.verbs._preparing.split import split_of
from radsynth.verbs._preparing.stray import without_stray
from radsynth.verbs._rejected import nothing_left
from radsynth.verbs._untaught import untaught

__all__ = ["Settings", "check", "prepare"]

Share = Annotated[float, Field(ge=0, le=1)]


@settings
class Settings:
    """Preparing: how images become arrays."""

    size: Annotated[tuple[Annotated[int, Field(ge=4, le=2048)], ...], Field(min_length=2, max_length=3)] | None = None
    """Rows and columns, or slices, rows and columns; null: the median size of the data, in multiples of 16 (of 8 for
    small images)."""
    fit: Literal["pad", "crop", "patches"] = "pad"
    """Images of other sizes: pad shrinks larger ones as a whole until they fit and puts background around; crop shrinks
    them until they fill the size and cuts off the rest. Smaller ones are padded. Never stretched: all axes alike.
    patches: cut crops of the size at the images' own resolution, for tasks from image to image."""
    patches: Annotated[int, Field(ge=0)] = 0
    """With fit=patches: patches of an image, at most; 0: as many as make 20,000 of all images."""
    enlarge: bool = False
    """Enlarge images that are smaller than the size, instead of only padding them."""
    channels: Literal["keep", "grey"] = "keep"
    """Keep the channels, or make colour grey."""
    intensity: Literal["auto", "window", "percentiles", "bits"] = "auto"
    """How values are mapped. auto: window for CT (Hounsfield units), percentiles of each volume for MR, NIfTI and
    floating point, the stored bits for radiographs and pictures."""
    window: tuple[float, float] = (-1024.0, 1500.0)
    """Lowest and highest value that a window keeps, in Hounsfield units."""
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0.5, 99.5)
    """Percentiles of a volume that become black and white."""
    extra: Path | None = None
    """More images, added to the training split alone: such as those that 'radsynth generate' made, with their masks."""
    masks: Literal["auto", "all", "instances", "off"] = "auto"
    """auto: keep masks when at least half of the images have one, and reject the images that have none (but see
    data.unmasked). instances: in them every thing (each cell) has its own number; they become 1 inside of a thing and 2
    on its border. all: as auto, but keep label values that one patient alone has, too; else images with such are
    rejected."""
    train: Share = 0.7
    """Share of the patients for training."""
    validation: Share = 0.15
    """Share of the patients for validation; the rest is for the test."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Another number splits the patients otherwise."""
    official: bool = True
    """Keep the split that comes with the data, if one does."""
    shard: Annotated[int, Field(ge=1, le=65536)] = 256
    """Images in a file of arrays, at most (few images make smaller files); a volume's slices stay together."""
    strict: bool = False
    """End with an error if any file has to be rejected."""


def prepare(data: Any, out: Path, *, settings: Resolved | None = None, overrides: Sequence[str] = (),
            workers: int | None = None, cluster: str = "") -> Prepared:
    """Make the prepared folder `out` from `data`: a path, or the settings section that describes a data set.

    settings: all of them, resolved; or instead overrides, such as ["prepare.size=[64, 64]"].
    workers: processes, default one for each core. cluster: the address of a Dask scheduler (tcp://host:port), whose
    workers do it instead and must see the same files. The arrays are the same whoever makes them. Raises DataError when
    the data cannot be used as a whole, FolderError when `out` holds something else, is being filled by another process
    or cannot be written, Interrupted.
    """
    path = Path(data) if isinstance(data, str | Path) else None
    settings = settings or given(("data", "prepare"), overrides, data=path)
    data = data if path is None else settings.section("data")
    options = settings.section("prepare", Settings)
    check(options)
    out, rejected = Path(out), list[Rejected]()
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
            raise DataError(f"prepare.strict is set and {_files(finished.manifest.rejected)} cannot be used: "
                            f"{out}/rejected.csv says why.")
        return _told(finished)
    _check_rejected(rejected, options.strict)
    known = [(record, facts) for record in records if (facts := _facts(record, rejected)) is not None]
    plan = _plan(options, known, rejected)
    if options.fit == "patches":
        known = cut_into(known, plan.size, options.patches)
    if cluster:
        _check_cluster(cluster, known[0][0], plan)
    check_free(out)
    with locked(out, f"{out} is being filled by another process. Wait for it, or choose another folder."):
        _fill(out, data, options, plan, known, rejected, source, cores() if workers is None else workers, cluster,
              preparation_of(settings))
    return _told(Prepared(out))


def _told(made: Prepared) -> Prepared:
    """The same, after what is missing in it was said."""
    if problem := untaught(made.training_labels()):
        tell(f"mind: {problem}")
    return made


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
    entries = entries if options.masks == "all" or virtual else without_stray(records, entries)  # nobody made a slip
    outcome = decide(records, entries, rejected, masks=options.masks != "off")
    _check_rejected(outcome.rejected, options.strict)
    masked = [outcome.masks and entry.mask_values is not None for entry in entries]
    split = split_of(records, outcome.usable, masked, options.official,
                     (options.train, options.validation, _test_share(options)), options.split_seed)
    formats = Counter(facts.format for _, facts in known)
    made = Made(
        plan=plan,
        shards=shards,
        records=records,
        outcome=outcome,
        split=split,
        salt=salt,
        source=source,
        format=formats.most_common(1)[0][0],
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


def check(options: Settings) -> None:
    """SettingsError for what cannot work whatever the data is."""
    problems = []
    if options.train + options.validation > 1 + 1e-9:
        problems.append(f"prepare.train + prepare.validation is {options.train + options.validation:g}; at most 1")
    for name in ("window", "percentiles"):
        low, high = getattr(options, name)
        if low >= high:
            problems.append(f"prepare.{name}: {low:g} must be below {high:g}")
    if options.extra is not None and not options.extra.exists():
        problems.append(f"prepare.extra={options.extra} does not exist: name a folder of images, such as what "
                        "'radsynth generate' or 'radsynth apply' wrote")
    if options.extra is not None and options.masks == "instances":
        problems.append("prepare.extra brings masks of classes, prepare.masks=instances takes things with numbers of "
                        "their own: turn one of them off")
    if problems:
        raise SettingsError("; ".join(problems) + ".")


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


def _check_rejected(rejected: Sequence[Rejected], strict: bool) -> None:
    wrong = [line for line in rejected if not line.skipped]
    if strict and wrong:
        lines = "".join(f"\n  {line.path}: {line.reason}" for line in wrong[:10])
        raise DataError(f"prepare.strict is set and {_files(len(wrong))} cannot be used:{lines}")


def _files(count: int) -> str:
    return f"{count:,} file{'s' if count > 1 else ''}"


def _plan(options: Settings, known: Sequence[tuple[Record, Header]], rejected: Sequence[Rejected]) -> Plan:
    """Decide what is done to every image."""
    if not known:
        raise nothing_left(rejected)
    groups = groups_of(options, known)
    if len(groups) > 1:
        raise DataError(mixture(groups))
    group = next(iter(groups))
    size = size_of(options.size, options.fit, [facts.size for _, facts in known])
    levels = 65535 if group.method == "window" or any(facts.bits > 8 for _, facts in known) else 255
    low, high = options.window if group.method == "window" else (0.0, float(levels))
    return Plan(
        size=size,
        intensity=IntensityMap(method=group.method, low=low, high=high, levels=levels),
        channels=group.channels,
        modality=group.modality,
        units=group.units,
        grey=options.channels == "grey",
        instances=options.masks == "instances",
        percentiles=options.percentiles,
        crop=options.fit == "crop",
        enlarge=options.enlarge,
    )


def _make(
    folder: Path, chunks: Sequence[Sequence[Record]], plan: Plan, workers: int, cluster: str
) -> list[Shard]:
    """Every shard: those that an earlier call finished are read, the others are made."""
    shards = {n: shard for n in range(len(chunks)) if (shard := Shard.read(folder / f"{n:05d}.json")) is not None}
    jobs = together([n for n in range(len(chunks)) if n not in shards], chunks)
    total, done = sum(map(len, chunks)), sum(len(chunks[n]) for n in shards)
    calls = [(folder, {number: chunks[number] for number in job}, plan) for job in jobs]
    with Progress(total, "preparing", "images") as progress:
        for position, made in run_all(make_shards, calls, workers, cluster):
            shards.update(zip(jobs[position], made, strict=True))
            done += sum(len(chunks[number]) for number in jobs[position])
            progress.update(done)
    return [shards[n] for n in range(len(chunks))]

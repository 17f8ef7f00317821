"""Evaluates: how close synthetic images are to real ones of patients that training never saw; whether they are copies.

Every number comes with its interval and with its floor: what real training images give in place of the synthetic ones.
Several synthetic sets are measured on the same images and half-samples, and ranked (`_evaluating/ranking.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.errors import DataError
from radsynth.files import check_writable, scratch
from radsynth.metrics._features import Rows, forget
from radsynth.progress import tell
from radsynth.verbs._evaluating.document import document_of, pictures_of, side_by_side, unjudged
from radsynth.verbs._evaluating.measuring import Measuring, Scale
from radsynth.verbs._evaluating.options import Settings as Settings
from radsynth.verbs._evaluating.pictures import shown, write_results
from radsynth.verbs._evaluating.ranking import ranking
from radsynth.verbs._evaluating.sides import Numbers, PreparedRows, Source, choose
from radsynth.verbs._evaluating.synthetic import Synthetic, first_image, read_set, refuse_trained_on
from radsynth.verbs._evaluating.unprepared import open_unprepared, prepared_in
from radsynth.verbs._grid import black_and_white, shown_window

HELD_OUT = ("validation", "test")


def evaluate(real: Path, synthetic: Path, *more: Path, settings: Settings | None = None,
             out: Path | None = None) -> dict[str, Any]:
    """Compare folders of synthetic images with real ones; returns what results.json holds.

    real: a prepared folder; a run folder, whose prepared data is meant; or any images, which are prepared as those of
    the first synthetic set's run were (without a run they must have its size) and all count as unseen, so that copies
    cannot be looked for. The images that this run learned from stand for its prepared data.
    synthetic, more: what `generate` wrote, any folder with image files of the same size, or a run folder, whose images
    in RUN/synthetic are meant. Several are ranked: "sets" then holds what is otherwise the whole document.
    out: where results.json and pictures/ are written, for `report`; nothing is written without it
    Raises FolderError for folders that are none of this, DataError when nothing can be measured.
    """
    real, folders = Path(real), [Path(synthetic), *map(Path, more)]
    if out is not None:
        check_writable(out)
    if (prepared := prepared_in(real)) is not None:
        _ask_about_order(real, folders)
        return _evaluate_folders(Prepared(prepared), folders, settings, out, copies=True)
    first = first_image(folders[0])
    with scratch() as temporary:
        opened = open_unprepared(real, folders[0], first, temporary, shrink=(settings or Settings()).shrink)
        return _evaluate_folders(opened.prepared, folders, settings, out, copies=opened.own, notes=opened.notes)


def _ask_about_order(real: Path, folders: Sequence[Path]) -> None:
    """Tell of a run before a single folder that radsynth did not make: who reads RUN PICTURES may mean PICTURES RUN."""
    plain = len(folders) == 1 and not any((folders[0] / name).exists() for name in ("samples.csv", "spec.json"))
    if plain and (real / "synthetic").is_dir():
        tell(f"mind: the images that {real} learned from are taken for the real ones, {folders[0]} for synthetic ones; "
             f"if these are the real ones, the order is 'radsynth evaluate {folders[0]} {real}'.")


def _evaluate_folders(prepared: Prepared, folders: list[Path], settings: Settings | None, out: Path | None, *,
                      copies: bool, notes: Sequence[str] = ()) -> dict[str, Any]:
    for folder in folders:
        refuse_trained_on(folder, prepared, _held_out(prepared) if copies else np.arange(len(prepared.rows)))
    found = [read_set(folder, prepared.spec, prepared.intensity) for folder in folders]
    sets = dict(zip(_names(folders), found, strict=True))
    if len(sets) == 1:
        return evaluate_prepared(prepared, found[0].images, labels=found[0].labels, settings=settings, out=out,
                                 copies=copies, notes=notes)
    return rank_prepared(prepared, sets, settings=settings, out=out, copies=copies, notes=notes)


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise DataError("The same folder of synthetic images was given twice. Give every set once.")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _held_out(prepared: Prepared) -> NDArray[np.int64]:
    return prepared.own(*HELD_OUT)


def _sources(prepared: Prepared) -> tuple[Source, Source]:
    """The held-out images and those of the training, of the data itself: `prepare.extra` is no part of the floor."""
    sources = [Source(images=PreparedRows(prepared=prepared, rows=rows), patients=prepared.patients(rows),
                      labels=prepared.labels(rows)) for rows in (_held_out(prepared), prepared.own("train"))]
    return sources[0], sources[1]


def evaluate_prepared(prepared: Prepared, synthetic: Rows, *, labels: Numbers | None = None,
                      settings: Settings | None = None, out: Path | None = None, copies: bool = True,
                      notes: Sequence[str] = ()) -> dict[str, Any]:
    """Compare synthetic images (n, c, *space) in [-1, 1] with the held-out patients of a prepared folder.

    labels: class indices (n,) of the synthetic images, -1 without
    copies: its training images are those of the generator, so that copies of them can be looked for
    notes: what a reader must know beside the warnings
    """
    held_out, training = _sources(prepared)
    return evaluate_sources(held_out, training, Source(images=synthetic, labels=labels), scale=Scale.of(prepared),
                            facts=_facts(prepared), copies=copies, settings=settings, out=out,
                            notes=[*notes, *_added(prepared)])


def write_unmeasured(prepared: Prepared, synthetic: Rows, reason: str, options: Settings, out: Path) -> dict[str, Any]:
    """results.json of synthetic images that nothing could be measured of, with pictures of them and the closest pairs;
    returns what was written. reason: of the refusal
    """
    _, training = _sources(prepared)
    searched = training.draw(options.training_images, np.random.default_rng(options.seed))
    pairs, window = unjudged(Source(images=synthetic), searched, options), shown_window(prepared.spec)
    document = {"measurements": [], "refused": [{"name": "all", "title": "Every number", "reason": reason}],
                "neighbours": pairs, **({"window": list(window)} if window else {})}
    ends = black_and_white(window, prepared.intensity)
    beside = side_by_side(pairs, synthetic, searched.images, ends) if options.real_pictures else {}
    write_results(out, document, {"synthetic": shown(synthetic, ends), **beside})
    return document


def _added(prepared: Prepared) -> list[str]:
    """What a reader must know where `prepare.extra` added training images."""
    count = len(prepared.indices("train")) - len(prepared.own("train"))
    if not count:
        return []
    return [f"The {count:,} training images that prepare.extra added are no part of any comparison: neither of the "
            "floor nor of the search for copies. 'radsynth audit' searches those that may show somebody."]


def rank_prepared(prepared: Prepared, sets: Mapping[str, Synthetic], *, settings: Settings | None = None,
                  out: Path | None = None, copies: bool = True, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Compare several synthetic sets with the same held-out images, and rank them; parameters as above."""
    start, options = time.monotonic(), settings or Settings()
    held_out, training = _sources(prepared)
    sources = {name: Source(images=one.images, labels=one.labels) for name, one in sets.items()}
    measuring = _measuring(held_out, training, sources, Scale.of(prepared), options, out)
    documents, measured = {}, {}
    for name, source in sources.items():
        documents[name], measured[name] = document_of(measuring, name, held_out, training, source, copies,
                                                      options)
        documents[name]["context"] |= _facts(prepared)
        documents[name]["context"]["warnings"] += [*notes, *_added(prepared)]
    document = {"version": 1, **ranking(measured, options.repetitions), "sets": documents,
                "context": _facts(prepared) | {"seconds": round(time.monotonic() - start, 1),
                                            "repetitions": options.repetitions}}
    if out is not None:
        window = black_and_white(_facts(prepared).get("window"), prepared.intensity)
        sides = {f"set_{k}": side for k, side in enumerate(measuring.sides.synthetic.values())}
        sides |= {"real": measuring.sides.held_out} if options.real_pictures else {}
        write_results(Path(out), document, {name: shown(side, window) for name, side in sides.items()})
    return document


def evaluate_sources(held_out: Source, training: Source, synthetic: Source, *, scale: Scale | None = None,
                     facts: Mapping[str, Any] | None = None, copies: bool = True, settings: Settings | None = None,
                     out: Path | None = None, notes: Sequence[str] = (), before: Source | None = None,
                     ) -> dict[str, Any]:
    """Compare synthetic images with real ones that training never saw; images are (n, c, *space) float32 in [-1, 1].

    facts: what the results tell of the data; its "window", in the images' units, is that in which pictures are shown
    copies, notes: as in `evaluate_prepared`; out: as in `evaluate`
    before: what the synthetic images were made from; its own numbers are then in "before", as measurements
    """
    start, options, scale, facts = time.monotonic(), settings or Settings(), scale or Scale(), facts or {}
    sets = {"synthetic": synthetic} | ({} if before is None else {"before": before})
    measuring = _measuring(held_out, training, sets, scale, options, out)
    document, _ = document_of(measuring, "synthetic", held_out, training, synthetic, copies, options)
    if before is not None:
        found, _ = measuring.measure("before", copies=False, repetitions=options.repetitions, seed=options.seed)
        document["before"] = [one.to_json() for one in found]
    document["context"]["warnings"] += notes
    document["context"] |= {**facts, "seconds": round(time.monotonic() - start, 1)}
    if out is not None:
        window = black_and_white(facts.get("window"), scale.intensity)
        write_results(Path(out), document, pictures_of(document, measuring.sides, options, window))
    return document


def _measuring(held_out: Source, training: Source, sets: Mapping[str, Source], scale: Scale, options: Settings,
               out: Path | None) -> Measuring:
    sides = choose(held_out, training, sets, images=options.images, training_images=options.training_images,
                   seed=options.seed)
    cache = None if out is None else Path(out) / "features"
    if cache is not None and not options.real_pictures:
        forget(cache)
        cache = None
    return Measuring(sides, scale, cache=cache, inception=options.inception)


def _facts(prepared: Prepared) -> dict[str, Any]:
    window = shown_window(prepared.spec)
    return {"virtual": prepared.spec.virtual, "data_hash": prepared.manifest.data_hash,
            "channels": list(prepared.spec.channels), "spacing": prepared.spec.spacing,
            **({"window": list(window)} if window else {})}

"""Settings that do nothing beside the data, the task or other settings: told, so that nobody waits for their effect.

Those of training are in `_training/idle.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from radsynth.arrays import Prepared
from radsynth.datasets import Record
from radsynth.image import ImageSpec
from radsynth.settings import Resolved
from radsynth.tasks import Task, draws, segments, takes_images
from radsynth.verbs._preparing.options import Settings as PrepareSettings

Idle = tuple[str, str, str]
"""Section, name and reason of a setting that has no effect."""


def in_vain(settings: Resolved, idle: Iterable[Idle], usual: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each of them that is neither its default nor what is usual (a recipe, a plan, a preset)."""
    found = []
    for section, name, why in idle:
        own = settings.section(section)
        value = getattr(own, name)
        if value not in (type(own).__pydantic_fields__[name].default, usual.get(section, {}).get(name)):
            found.append(f"{section}.{name}={json.dumps(value, default=str)} does nothing here: {why}.")
    return found


def unused_by_run(task: Task, spec: ImageSpec) -> Iterator[Idle]:
    """Of `run`, which neither makes nor measures the same things for every task. spec: of the images"""
    yield "evaluate", "shrink", "'run' prepares the real images; it is for 'radsynth evaluate'"
    if draws(task):
        if spec.dimensions == 3:
            yield "evaluate", "inception", "it is for 2-D images"
        yield "evaluate", "anatomy", "it is for tasks from image to image"
        return
    for name in ("count", "format", "truncation", "copy_filter"):
        yield "generate", name, "this task makes images from images: 'radsynth apply' does so"
    for name in ("training_images", "pairs", "classes", "inception"):
        yield "evaluate", name, "what this task makes from images is measured otherwise"
    if segments(task) or not takes_images(task):
        yield "evaluate", "anatomy", "it is for tasks that make images from images"
    elif task.targets and spec.mask_classes < 2:
        yield "evaluate", "anatomy", "images that are no pairs and have no masks teach no anatomy"


def unused_by_evaluate(shrinks: bool) -> Iterator[Idle]:
    """Of `evaluate`, which learns nothing. shrinks: whether real images may be brought to the synthetic ones' size"""
    yield "evaluate", "anatomy", "it is for 'radsynth run' of tasks from image to image"
    if not shrinks:
        yield "evaluate", "shrink", "the real images are prepared, or will be as those of the run were"


def unused_by_split(options: PrepareSettings, records: Iterable[Record]) -> Iterator[Idle]:
    """Of `prepare`, which keeps a split that comes with the data."""
    if options.official and all(record.split for record in records if not record.added):
        for name in ("train", "validation", "split_seed"):
            yield "prepare", name, "the data brings its own split (prepare.official=false divides it anew)"


def unused_by_prepare(options: PrepareSettings, made: Prepared) -> Iterator[Idle]:
    """Of `prepare`, whose data decides how values are mapped and whether there are masks."""
    for name, method in (("window", "window"), ("percentiles", "percentiles")):
        if made.intensity.method != method:
            yield "prepare", name, (f"values are mapped by {made.intensity.method} (prepare.intensity={method} maps "
                                    "them so)")
    if options.fit != "patches":
        yield "prepare", "patches", f"no patches are cut (prepare.fit={options.fit})"
    if options.masks != "off" and not made.spec.mask_classes:
        yield "prepare", "masks", "no masks are kept: at least half of the images must have one"
    if not made.manifest.added:
        yield "prepare", "extra", f"none of its images could be used ({made.folder}/rejected.csv says why)"

"""Controls a generator: truncation, ways between images, and latent directions with their measured effects.

A direction is worth what it does: along each one every attribute is measured on fresh images, the wanted one and the
side effects, with an interval. Closed form: Shen and Zhou 2021; principal: Härkönen et al. 2020; of an attribute by
regression, and freed of the others: Shen et al. 2020 (InterFaceGAN).
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.files import check_writable, replacing, write_atomically
from radsynth.progress import Progress
from radsynth.run_folder import RunFolder
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._steering.contact_sheets import Shown
from radsynth.verbs._steering.control_pictures import save_sheets
from radsynth.verbs._steering.control_words import sentences
from radsynth.verbs._steering.latents import LatentSpace
from radsynth.verbs._steering.steering import (
    MEASURED,
    STEPS,
    TRUNCATIONS,
    Direction,
    Study,
    Unmoved,
    find_directions,
    latent_space,
    measure_effects,
    render,
    sampled,
    study,
    truncation_sweep,
    unmoved,
    walk,
)

__all__ = ["Direction", "Study", "control", "find_directions", "latent_space", "measure_effects", "render", "study",
           "truncation_sweep", "walk"]


def control(run: Path, out: Path | None = None, *, label: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Find and measure directions; writes OUT/control.json, OUT/directions.npz and contact sheets (PNG).

    out: default RUN/control; label: the class whose images are moved, default every class in turn
    Raises SettingsError for a run without noise or a class that it has not learned, FolderError for no run.
    """
    run = Path(run)
    sampler = Sampler(run)
    names = sampler.spec.labels
    asked = None if label is None else sampler.index_of(label)
    space = LatentSpace.of_run(sampler, run)
    chosen = asked if space.classes else None
    place = Path(out) if out is not None else run / "control"
    check_writable(place)
    with Progress(sampled(space, chosen), "looking for directions", "images") as progress:
        of = study(space, label=chosen, seed=seed, done=progress.update)
        plain = find_directions(of, label=chosen)
    found = _measured(of, plain, names, chosen, seed)
    with Progress(len(TRUNCATIONS), "truncating", "steps") as progress:
        swept, variety = truncation_sweep(of, done=progress.update)
    document: dict[str, Any] = {
        "version": 1, "weights": sampler.facts["sha256"], "seed": seed, "label": label, "virtual": sampler.spec.virtual,
        "space": {"length": space.length, "kind": "style (w)" if space.mapped else "what the first layer sees",
                  "on_a_sphere": space.radius is not None},
        "attributes": [{"name": one.name, "unit": one.unit, "meaning": one.meaning,
                        "mean": float(of.values[:, k].mean()), "deviation": float(of.values[:, k].std())}
                       for k, one in enumerate(of.attributes)],
        "truncation": variety, "directions": [one.to_json() for one in found],
        "sampled": len(of.codes), "measured": MEASURED,
    }
    document["words"] = sentences(document)
    if out is None:
        RunFolder(run).check_weights(sampler.facts["sha256"])
    with replacing(place / "control.json") as new:
        document["pictures"] = save_sheets(new, of, found, swept, variety, sampler.spec,
                                           Shown.of(sampler.spec, sampler.intensity), seed, chosen)
        _save_vectors(new / "directions.npz", found)
        write_atomically(new / "control.json", json.dumps(document, indent=1))
    return document


def _measured(of: Study, plain: Sequence[Direction], names: Sequence[str], chosen: int | None, seed: int,
              ) -> list[Direction]:
    """The directions with their effects; ways between classes are named after these."""
    space, found, starts = of.space, [], dict[int | None, Unmoved]()
    each = (len(STEPS) - 1) * MEASURED

    def after(number: int) -> Callable[[int], None]:
        return lambda steps: progress.update(number * each + steps * MEASURED)

    with Progress(len(plain) * each, "measuring effects", "images") as progress:
        for number, direction in enumerate(plain):
            begin = space.begin(chosen) if direction.kind == "class" else chosen
            if direction.kind == "class":
                way = f"{names[space.begin(chosen)]} to {names[int(direction.name)]}"
                direction = dataclasses.replace(direction, name=way)
            if begin not in starts:
                starts[begin] = unmoved(of, seed=seed, label=begin)
            found.append(measure_effects(of, direction, seed=seed, label=chosen, start=starts[begin],
                                         done=after(number)))
    return found


def _save_vectors(path: Path, found: list[Direction]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, names=np.asarray([one.name for one in found]), kinds=np.asarray([one.kind for one in found]),
             vectors=np.stack([one.vector for one in found]), steps=np.asarray([one.step for one in found]))
    write_atomically(path, buffer.getvalue())

"""Explains a generator by single images: inversion, counterfactual pairs, where its discriminator looks."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from radsynth.arrays import Prepared
from radsynth.errors import SettingsError
from radsynth.files import check_writable, replacing, write_atomically
from radsynth.metrics._paired import absolute_error, peak_signal_to_noise, structural_similarity
from radsynth.metrics._privacy_attacks import area
from radsynth.progress import Progress, track
from radsynth.run_folder import RunFolder
from radsynth.tasks import draws_masks
from radsynth.verbs._discriminator import load_discriminator
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._steering import directions as directions_of
from radsynth.verbs._steering.attribution import completeness_gap, integrated_gradients, occlusion
from radsynth.verbs._steering.contact_sheets import Shown
from radsynth.verbs._steering.explain_pictures import save_pictures_of
from radsynth.verbs._steering.explain_sources import given_images, guess_classes, made_images, numbers_of, prepared_data
from radsynth.verbs._steering.explain_words import sentences
from radsynth.verbs._steering.explained import Explained, Given
from radsynth.verbs._steering.inversion import Inversion, invert, layer_features
from radsynth.verbs._steering.judge import Judge, scores
from radsynth.verbs._steering.latents import LatentSpace
from radsynth.verbs._steering.steering import Study, freed, render, sampled, study

JUDGED = 200
"""Held-out and synthetic images on which the discriminator is tried."""
LEAST_JUDGED = 20
"""Held-out images below which it is not: their area under the curve would say nothing."""
PARTS = {2: 8, 3: 4}
"""Windows of occlusion side by side, in 2-D and 3-D; they overlap by half, so there are up to 225 or 343 of them."""
SHIFT = 2.0
"""Steps along an attribute's direction that make a counterfactual."""
FOLLOWS = 0.05
"""R^2 from which an attribute follows from the code well enough to be changed."""

Array = NDArray[np.float32]


def explain(run: Path, images: Sequence[Path] = (), out: Path | None = None, *, label: str | None = None,
            data: Path | None = None, seed: int = 0, starts: int = 4, steps: int = 200) -> dict[str, Any]:
    """Explain by single images; writes OUT/explain.json, OUT/explain.npz (codes and maps) and pictures (PNG).

    images: files or folders of images; without any, held-out images of the prepared data (`data`, or RUN/data)
    label: their class; guessed without it. out: default RUN/explain. starts, steps: of the search for codes
    Raises SettingsError for a run without noise, with masks or an unknown class, DataError and FolderError for images.
    """
    run = Path(run)
    sampler = Sampler(run)
    if draws_masks(sampler.task):
        raise SettingsError(f"{run} draws images together with their masks, and judges both: an image alone cannot be "
                            "explained. Give a run without task.masks.")
    space = LatentSpace.of_run(sampler, run)
    place = Path(out) if out is not None else run / "explain"
    check_writable(place)
    prepared = prepared_data(run, data)
    real = given_images(sampler, images, label, prepared, seed)
    if real.assumed:
        real = guess_classes(space, real, seed)
    discriminator, reason = load_discriminator(sampler.task, run)
    discriminator = None if discriminator is None else discriminator.to(sampler.device)
    made = made_images(sampler, seed)
    with Progress(sampled(space), "drawing images to compare with", "images") as progress:
        of = study(space, seed=seed, done=progress.update)
    with Progress(2 * steps, "looking for codes", "steps") as progress:
        searched = [_search(space, one, discriminator, starts, steps, seed, partial(_report, progress, k * steps))
                    for k, one in enumerate((real, made))]
    explained = [_explain(sampler, space, of, discriminator, one, found)
                 for one, found in zip((real, made), searched, strict=True)]
    document: dict[str, Any] = {
        "version": 1, "weights": sampler.facts["sha256"], "virtual": sampler.spec.virtual, "seed": seed,
        "search": {"starts": starts, "steps": steps, "features": "discriminator" if discriminator else "none"},
        "discriminator": _trial(sampler, discriminator, reason, prepared, seed),
        "images": [line for one in explained for line in _lines(one, sampler.spec.labels)],
    }
    document["words"] = sentences(document)
    if out is None:
        RunFolder(run).check_weights(sampler.facts["sha256"])
    with replacing(place / "explain.json") as new:
        document["pictures"] = save_pictures_of(new, explained, sampler.spec,
                                                Shown.of(sampler.spec, sampler.intensity))
        _save_arrays(new / "explain.npz", explained)
        write_atomically(new / "explain.json", json.dumps(document, indent=1))
    return document


def is_output(path: Path) -> bool:
    """Whether the last path on a command line is the folder to write: a name that no image has, with nothing in it but
    an explanation, or what one that was killed has left."""
    if path.is_dir():
        names = [entry.name for entry in path.iterdir()]
        return not names or any(name == "explain.json" or name.startswith(".explain.json.") for name in names)
    return not path.exists() and not path.suffix


def _report(progress: Progress, before: int, done: int) -> None:
    progress.update(before + done)


def _classes(space: LatentSpace, given: Given) -> Tensor | None:
    return torch.from_numpy(given.labels).to(space.device) if space.classes else None


def _search(space: LatentSpace, given: Given, discriminator: nn.Module | None, starts: int, steps: int, seed: int,
            step_done: Callable[[int], None]) -> Inversion:
    # The search asks about every start of every image.
    numbers = None if given.numbers is None else given.numbers.repeat_interleave(starts, 0)
    features = layer_features(discriminator, numbers) if discriminator is not None else None
    return invert(space, torch.from_numpy(given.images).to(space.device), _classes(space, given), features=features,
                  starts=starts, steps=steps, seed=seed, step_done=step_done)


def _explain(sampler: Sampler, space: LatentSpace, of: Study, discriminator: nn.Module | None, given: Given,
             found: Inversion) -> Explained:
    counterfactuals, changes = _counterfactuals(space, of, found.codes, _classes(space, given), sampler.spec.labels)
    quality = [_quality(given.images[k:k + 1], found.images[k:k + 1], found.nearest[k:k + 1], of.images)
               for k in range(len(given.images))]
    plain = Explained(given=given, inversion=found, quality=quality, counterfactuals=counterfactuals, changes=changes)
    return plain if discriminator is None else _attribute(space, of, discriminator, plain)


def _quality(truth: Array, redrawn: Tensor, nearest: Tensor, drawn: Array) -> dict[str, float]:
    """Errors of the redrawn image, of the nearest image drawn, and of the mean image, which needs no generator."""
    def array(images: Tensor) -> Array:
        return np.asarray(images.detach().float().clamp(-1, 1).cpu().numpy(), dtype=np.float32)

    mean = drawn.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
    return {
        "absolute_error": float(absolute_error(array(redrawn), truth)[0]),
        "psnr": float(peak_signal_to_noise(array(redrawn), truth)[0]),
        "ssim": float(structural_similarity(array(redrawn), truth)[0]),
        "nearest_absolute_error": float(absolute_error(array(nearest), truth)[0]),
        "nearest_ssim": float(structural_similarity(array(nearest), truth)[0]),
        "mean_image_absolute_error": float(absolute_error(mean, truth)[0]),
    }


def _counterfactuals(space: LatentSpace, of: Study, codes: Tensor, labels: Tensor | None, names: tuple[str, ...],
                     ) -> tuple[Array, tuple[str, ...]]:
    """Each image as it would be otherwise: of the other classes, or with more of an attribute; (n, m, c, *space).

    Another class moves the code by the difference of the classes' mean codes and tells the network the class.
    """
    if labels is None:
        plain = of.codes.double().cpu().numpy()
        made, told = [], []
        fits = [directions_of.regress(plain, of.values[:, index]) for index in range(len(of.attributes))]
        bases = np.stack([vector for vector, _ in fits])
        for index, one in enumerate(of.attributes):
            vector = freed(bases, index)  # or all of them would show what attributes have in common
            if fits[index][1] > FOLLOWS and np.linalg.norm(vector) > 0:
                step = SHIFT * directions_of.spread(plain, vector)
                made.append(render(space, space.move(codes, vector, step), None))
                told.append(f"more {one.name}")
        empty = np.zeros((len(codes), 0, *of.images.shape[1:]), np.float32)
        return (np.stack(made, axis=1) if made else empty), tuple(told)
    centres = {label: of.codes[torch.as_tensor(of.groups == label)].mean(0) for label in space.learned}
    own = torch.stack([centres[label] for label in labels.tolist()])
    made = [render(space, space.place(codes - own + centre), torch.full_like(labels, other))
            for other, centre in centres.items()]
    return np.stack(made, axis=1), tuple(names[label] for label in centres)


def _attribute(space: LatentSpace, of: Study, discriminator: nn.Module, plain: Explained) -> Explained:
    """Attributions against the mean synthetic image of the class: what makes this image other than the typical."""
    given, groups = plain.given, of.groups
    gradients, occlusions, gaps, found = [], [], [], []
    numbers = [None] * len(given.images) if given.numbers is None else list(given.numbers)
    asked = list(zip(given.images, given.labels, numbers, strict=True))
    for image, label, at in track(asked, label=f"asking the discriminator about {given.kind}", unit="images"):
        own = of.images if groups is None else of.images[groups == label]
        typical = torch.from_numpy(own.mean(0, dtype=np.float64).astype(np.float32)).to(space.device)
        judge = Judge(discriminator, torch.tensor(int(label), device=space.device) if space.classes else None, at)
        one = torch.from_numpy(image[None]).to(space.device)
        maps = integrated_gradients(judge, one, typical)
        gaps.append(float(completeness_gap(judge, one, typical, maps)[0]))
        window = max(2, min(image.shape[1:]) // PARTS[image.ndim - 1])
        occlusions.append(occlusion(judge, one, typical, window, max(1, window // 2))[0].numpy())
        gradients.append(maps[0].cpu().numpy())
        with torch.no_grad():
            found.append(float(judge(one)[0]))
    return dataclasses.replace(plain, scores=found, gaps=gaps, gradients=np.stack(gradients).astype(np.float32),
                               occlusions=np.stack(occlusions).astype(np.float32))


def _trial(sampler: Sampler, discriminator: nn.Module | None, reason: str, prepared: Prepared | None, seed: int,
           ) -> dict[str, Any]:
    """Whether the discriminator can tell held-out real images from synthetic ones at all."""
    if discriminator is None:
        return {"there": False, "reason": reason}
    document: dict[str, Any] = {"there": True, "auc_held_out_against_synthetic": None, "images": 0}
    if prepared is not None:
        rows = prepared.indices("test" if len(prepared.indices("test")) else "validation")
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:JUDGED])
        document["held_out"] = len(rows)
        if len(rows) >= LEAST_JUDGED:
            chunks = list(sampler.images(3000, len(rows), seed=seed))
            made, labels = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
            several = len(sampler.spec.labels) > 1
            real = scores(discriminator, prepared.images(rows), prepared.labels(rows) if several else None,
                          numbers_of(sampler, prepared, rows))
            fake = scores(discriminator, np.clip(made, -1, 1), labels if several else None,
                          sampler.conditions(range(3000, 3000 + len(rows)), seed))
            document |= {"auc_held_out_against_synthetic": area(real, fake), "images": len(rows)}
    return document


def _lines(one: Explained, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """What explain.json holds of every image."""
    lines = []
    for k, name in enumerate(one.given.names):
        label = int(one.given.labels[k])
        lines.append({
            "name": name, "kind": one.given.kind, "label": names[label] if 0 <= label < len(names) else "",
            "label_assumed": one.given.assumed, **one.quality[k], "loss": float(one.inversion.loss[k]),
            "spread_of_starts": float(one.inversion.spread[k]), "changes": list(one.changes),
            "score": one.scores[k] if one.scores else None, "completeness_gap": one.gaps[k] if one.gaps else None,
        })
    return lines


def _save_arrays(path: Path, explained: list[Explained]) -> None:
    """Codes, given and redrawn images, counterfactuals and maps, real images before synthetic ones."""
    arrays = {
        "names": np.asarray([name for one in explained for name in one.given.names]),
        "codes": np.concatenate([one.inversion.codes.cpu().numpy() for one in explained]),
        "redrawn": np.concatenate([one.inversion.images.cpu().numpy() for one in explained]),
        "counterfactuals": np.concatenate([one.counterfactuals for one in explained]),
    }
    if all(one.gradients is not None for one in explained):
        arrays["gradients"] = np.concatenate([one.gradients for one in explained if one.gradients is not None])
        arrays["occlusions"] = np.concatenate([one.occlusions for one in explained if one.occlusions is not None])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())

"""What tests of the training doctor share: small trainings of discs, and what their logs say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.settings import resolve
from radsynth.verbs._training import doctor as _doctor
from radsynth.verbs._training.compare import compare
from radsynth.verbs.generate import sample
from radsynth.verbs.train import train
from tests.tables import resplit

TINY = (
    "model.kind=dcgan", "model.width=8", "model.latent=8", "model.discriminator_norm=none", "train.batch=16",
    "train.previews=0", "train.precision=32-true", "task.loss=relativistic", "task.penalty=r1_r2",
)
OFF = "train.doctor=false"
Make = Callable[..., Path]


def split_discs(make_prepared: Make, **more: Any) -> Callable[[int], Path]:
    """A function that prepares so many training images, 32 for validation and 100 for tests; more: of their spec."""

    def make(count: int) -> Path:
        folder = make_prepared(count + 132, name=f"discs{count}", **more)
        splits = ["train"] * count + ["validation"] * 32 + ["test"] * 100
        resplit(folder, splits)
        document = json.loads((folder / "manifest.json").read_text())
        document["counts"] = document["patients"] = {name: splits.count(name) for name in sorted(set(splits))}
        (folder / "manifest.json").write_text(json.dumps(document))
        return folder

    return make


def texture(folder: Path) -> Path:
    """Put smooth random textures in the place of the discs: thirty of them do not show what the others are like."""
    shard = folder / "shards" / "00000.images.npy"
    shape = np.load(shard).shape
    coarse = torch.rand(shape[0], 1, 5, 5, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, shape[2:], mode="bicubic").clamp(0, 1)
    np.save(shard, (smooth * 255).to(torch.uint8).numpy())
    return folder


def assert_augmentation_helps(data: Path, runs: Path, few: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Assert of two trainings of few images that the doctor raises augmentation, and that the discriminator learns them
    less by heart so; they are in `runs`, "with" it and "without"."""
    patch.setattr(_doctor, "IMAGES_BETWEEN", 320)
    train(data, runs / "with", settings=resolve(overrides=tuple(few)))
    patch.setattr(_doctor, "STRONGEST", 0.0)  # a doctor that measures, and whose hands are bound
    train(data, runs / "without", settings=resolve(overrides=tuple(few)))
    assert "by heart" in events(runs / "with")["augmentation raised"]
    last = {name: measured(runs / name) for name in ("with", "without")}
    assert last["with"]["doctor/augmentation"] >= 0.3 > last["without"]["doctor/augmentation"] == 0
    overfit = {name: line["doctor/overfit"] for name, line in last.items()}
    assert overfit["with"] < 0.8 * overfit["without"], overfit


def distance(data: Path, run: Path) -> float:
    """How far generated images are from test images that nobody saw."""
    prepared = Prepared(data)
    made = torch.from_numpy(sample(run, 100)[0])
    assert torch.isfinite(made).all()
    return compare(made, torch.from_numpy(prepared.images(prepared.indices("test"))))[1]


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def measured(run: Path) -> dict[str, Any]:
    """The last measurements."""
    return next(line for line in reversed(lines(run)) if "step" in line)


def events(run: Path) -> dict[str, str]:
    return {line["event"]: line["text"] for line in lines(run) if "event" in line}

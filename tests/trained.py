"""What tests of trained runs share: small settings, weights, events, and a training that is stopped on the way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from radsynth.checkpoints import load_tensors
from radsynth.errors import Interrupted
from radsynth.settings import Resolved, resolve
from radsynth.verbs._training.loop import Loop
from radsynth.verbs.train import train

SMALL = (
    "model.kind=dcgan", "model.width=8", "model.latent=8", "model.discriminator_norm=none", "train.batch=8",
    "train.previews=1", "train.precision=32-true",
)


def options(*more: str) -> Resolved:
    return resolve(overrides=(*SMALL, "train.images=160", *more))


def events(run: Path) -> list[str]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["event"] for line in lines if "event" in line]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_tensors(run / "generator.safetensors")[0]


def weights_of(loop: Loop) -> dict[str, torch.Tensor]:
    return {f"{name}/{key}": value.cpu() for name, network in loop.networks.items()
            for key, value in network.state_dict().items()}


def same(first: Path, second: Path) -> bool:
    """Whether two runs came to the same weights, bit for bit."""
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def made_grey(run: Path) -> None:
    """As if colour had been made grey for the run's training."""
    with (run / "settings.yaml").open("a") as file:
        file.write("prepare:\n  channels: grey\n")


@contextmanager
def stopped(step: int) -> Iterator[None]:
    """Within it a training must end as one that is asked to stop in this step."""
    take_step = Loop.take_step

    def step_then_stop(loop: Loop) -> dict[str, float]:
        if loop.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(loop)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Loop, "take_step", step_then_stop)
        yield


def resumes(data: Path, folder: Path, settings: Resolved, step: int = 2) -> bool:
    """Whether `folder`/cut, stopped in this step and gone on with, comes to the same weights as `folder`/whole."""
    train(data, folder / "whole", settings=settings)
    with stopped(step):
        train(data, folder / "cut", settings=settings)
    train(data, folder / "cut", settings=settings)
    return same(folder / "whole", folder / "cut")

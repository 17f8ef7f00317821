"""Golden loss traces: a change of structure must not change what is computed. Update the numbers only on purpose.

They are compared with a tolerance, because processors round sums in other orders.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from radsynth.arrays import Prepared
from radsynth.recipes import RECIPES
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings

TRACES = {  # discriminator and generator at steps 2, 4 and 6; torch 2.13, one thread, 2026-11-23,
    # sngan 2026-11-28: what stands for a class is a twentieth as long
    "sngan": [1.9447, 0.1597, 1.9301, 0.2147, 1.7419, 0.1209],
    "dcgan": [1.2502, 0.7227, 1.2828, 0.6669, 1.1281, 0.6604],
    "r3gan": [0.8206, 0.6145, 0.8511, 0.5907, 0.7876, 0.6318],
    "mlp": [1.2488, 0.6649, 1.0803, 0.6361, 0.9999, 0.5901],
}
SMALL = {"sngan": ("model.width=8", "model.latent=8"), "dcgan": ("model.width=8", "model.latent=8"),
         "r3gan": ("model.width=8", "model.latent=8", "model.widest=32"), "mlp": ()}


def trace(kind: str, data: Path, run: Path) -> list[float]:
    """Losses of both networks over six steps in fp32."""
    recipe = [f"{name}={value}" for name, value in RECIPES[kind].items()]
    fixed = ("train.images=96", "train.batch=16", "train.precision=32-true", "train.doctor=false")
    settings = resolve(overrides=[f"model.kind={kind}", *SMALL[kind], *recipe, *fixed])
    prepared = Prepared(data)
    task = build(settings, prepared.spec)
    loop = Loop(task, settings.section("train", Settings), prepared, RunFolder(run), settings.seed)
    steps = [loop.take_step() for _ in range(6)]
    return [round(step[name], 4) for step in steps[1::2] for name in ("discriminator/loss", "generator/loss")]


@pytest.mark.parametrize("kind", SMALL)
def test_the_losses_are_those_of_before(kind: str, make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    data = make_prepared(labels=("small", "large"))
    assert trace(kind, data, tmp_path / "run") == pytest.approx(TRACES[kind], abs=5e-3)

"""Small classifiers and segmenters (MONAI's DenseNet and U-Net), trained for a fixed number of steps on drawn images.

Every training takes the same number of optimiser steps, whatever it learns from: so a set with more images is not
also trained longer. Nothing is selected by a validation set; the last weights count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from radsynth.device import channels_last, here, module_channels_last, moved, torch_device
from radsynth.metrics._features import Rows
from radsynth.models._blocks import MODE

Kind = Literal["classification", "segmentation"]

LEAST_SIDE = 32
"""Smaller images are enlarged to this many pixels before they are classified: the network halves them five times."""
TIMED = 4
"""Steps by which it is known how long one takes."""
CHUNK = 64
"""Images that are predicted at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Images (n, c, *space) float32 in [-1, 1], with class indices (n,) and, for segmentation, masks (n, *space)."""

    images: Rows
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """Some of them, in memory."""
        return Examples(images=self.images[rows], labels=self.labels[rows],
                        masks=None if self.masks is None else self.masks[rows])


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, and how: the same for every training of a comparison. bf16: whether the network computes so"""

    kind: Kind
    classes: int
    steps: int
    batch: int
    rate: float
    bf16: bool = field(default_factory=lambda: here().bf16)


def network(recipe: Recipe, channels: int, dimensions: int) -> nn.Module:
    """A freshly initialised network that fits a CPU: 0.1 to 0.5 million weights."""
    from monai.networks.nets.densenet import DenseNet
    from monai.networks.nets.unet import UNet

    if recipe.kind == "classification":
        made: nn.Module = DenseNet(spatial_dims=dimensions, in_channels=channels, out_channels=recipe.classes,
                                   init_features=32, growth_rate=16, block_config=(3, 3, 3))
    else:
        made = UNet(spatial_dims=dimensions, in_channels=channels, out_channels=recipe.classes,
                    channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=1)
    return made


def describe(recipe: Recipe, channels: int, dimensions: int) -> str:
    """The network in words."""
    weights = sum(weight.numel() for weight in network(recipe, channels, dimensions).parameters())
    name = ("DenseNet of MONAI, 3 blocks of 3 layers, growth 16" if recipe.kind == "classification"
            else "U-Net of MONAI, 16 to 128 channels, 3 halvings")
    return f"{name}, {weights:,} weights"


def fit(recipe: Recipe, sources: list[Examples], augmented: bool, seed: int,
        step_done: Callable[[int], None] = lambda step: None) -> nn.Module:
    """Train on batches drawn in equal parts from the sources, classes equally often; reproducible from `seed`.

    On the GPU where there is one; the first weights and every draw come from the processor all the same.
    """
    first, device = sources[0].images[np.arange(1)], torch_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network(recipe, first.shape[1], first.ndim - 2)
    model = module_channels_last(model, first.ndim - 2).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps))))
    generator = np.random.default_rng([seed, 1])
    drawers = [_Drawer(source, recipe.kind) for source in sources]
    for step in range(recipe.steps):
        parts = [drawer.draw(share, generator) for drawer, share in
                 zip(drawers, _parts(recipe.batch, len(drawers)), strict=True)]
        images, targets = (moved(torch.cat(list(some)), device) for some in zip(*parts, strict=True))
        if augmented:
            images, targets = augment(images, targets, generator)
        loss = _loss(recipe, model, images, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimiser.step()
        schedule.step()
        step_done(step + 1)
    return model.eval()


def seconds_needed(recipe: Recipe, train: Examples, test: Rows) -> tuple[float, float]:
    """How long one optimiser step takes here, and the prediction of all test images; the first of either, which warms
    up, is not counted."""
    times: list[float] = []

    def done(step: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a GPU's work is only asked for when the call returns
        times.append(time.monotonic())

    model = fit(Recipe(kind=recipe.kind, classes=recipe.classes, steps=TIMED + 1, batch=recipe.batch, rate=recipe.rate),
                [train], True, 0, done)
    few = test[np.arange(min(CHUNK, len(test)))]
    predict(recipe, model, few)
    start = time.monotonic()
    predict(recipe, model, few)
    return (times[-1] - times[0]) / TIMED, (time.monotonic() - start) * len(test) / len(few)


@torch.no_grad()
def predict(recipe: Recipe, model: nn.Module, images: Rows) -> NDArray[Any]:
    """Probabilities (n, classes) float64, or masks (n, *space) uint8."""
    parts, device = [], next(model.parameters()).device
    for start in range(0, len(images), CHUNK):
        chunk = images[np.arange(start, min(start + CHUNK, len(images)))]
        logits = _logits(recipe, model, torch.from_numpy(chunk).to(device))
        parts.append(logits.double().softmax(1).cpu().numpy() if recipe.kind == "classification"
                     else logits.argmax(1).to(torch.uint8).cpu().numpy())
    return np.concatenate(parts)


class _Drawer:
    """Draws from one source with replacement; for classification every class equally often."""

    def __init__(self, source: Examples, kind: Kind) -> None:
        self.source = source
        groups = source.labels if kind == "classification" else np.zeros(len(source), np.int64)
        self.members = [np.flatnonzero(groups == group) for group in np.unique(groups)]

    def draw(self, count: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        which = generator.permutation(np.arange(count) % len(self.members))
        rows = np.asarray([generator.choice(self.members[k]) for k in which])
        masks = self.source.masks
        targets = self.source.labels[rows] if masks is None else masks[rows].astype(np.int64)
        return torch.from_numpy(self.source.images[rows]), torch.from_numpy(targets)


def _parts(batch: int, sources: int) -> list[int]:
    return [batch // sources + (k < batch % sources) for k in range(sources)]


def _logits(recipe: Recipe, model: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, classes) or (n, classes, *space) in float32."""
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=recipe.bf16):
        return _judged(recipe, model, images).float()


def _judged(recipe: Recipe, model: nn.Module, images: Tensor) -> Tensor:
    space = images.shape[2:]
    if recipe.kind == "classification":
        if min(space) < LEAST_SIDE:
            scale = LEAST_SIDE / min(space)
            images = functional.interpolate(images, [round(side * scale) for side in space],
                                            mode=MODE[len(space)], align_corners=False)
        judged: Tensor = model(channels_last(images))
        return judged
    gaps = [-side % 8 for side in space]
    pad = [part for gap in reversed(gaps) for part in (0, gap)]
    padded = functional.pad(images, pad, mode="replicate") if any(gaps) else images
    made: Tensor = model(channels_last(padded))
    return made[(slice(None), slice(None), *(slice(side) for side in space))]


def _loss(recipe: Recipe, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy; for segmentation with soft Dice added (Milletari et al. 2016), which minds small structures."""
    logits = _logits(recipe, model, images)
    loss = functional.cross_entropy(logits, targets)
    if recipe.kind == "classification":
        return loss
    shares = logits.softmax(1)
    truth = torch.zeros_like(shares).scatter_(1, targets[:, None], 1.0)
    axes = [0, *range(2, shares.ndim)]
    overlap = (2 * (shares * truth).sum(axes) + 1) / (shares.sum(axes) + truth.sum(axes) + 1)
    return loss + 1 - overlap[1:].mean()


TURN, SCALE, SHIFT, CONTRAST = math.radians(10), 0.1, 0.06, 0.15
"""Largest turn, relative change of size, shift as a share of the side, and relative change of contrast."""


def augment(images: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Classical augmentation: small turns in the plane of the last two axes, sizes, shifts, contrast and brightness.

    No flips, because sides matter in anatomy. Masks (n, *space) are moved alike; labels (n,) stay.
    """
    n, dimensions = len(images), images.ndim - 2

    def draw(*shape: int) -> NDArray[np.float64]:
        return generator.uniform(-1, 1, (n, *shape))

    angle, size, shift = TURN * draw(), 1 + SCALE * draw(), 2 * SHIFT * draw(dimensions)
    gain, offset = 1 + CONTRAST * draw(), CONTRAST / 2 * draw()
    # Rows of the grid's matrix are x (columns), y (rows) and z (slices), in units of half a side.
    matrix = np.zeros((n, dimensions, dimensions + 1))
    aspect = images.shape[-2] / images.shape[-1]
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
    matrix[:, 0, 1], matrix[:, 1, 0] = -np.sin(angle) * aspect, np.sin(angle) / aspect
    if dimensions == 3:
        matrix[:, 2, 2] = 1
    matrix[:, :, :dimensions] *= size[:, None, None]
    matrix[:, :, dimensions] = shift
    theta = torch.from_numpy(matrix.astype(np.float32)).to(images)
    places = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, places, padding_mode="border", align_corners=False)
    ones = [1] * (dimensions + 1)
    scale, bright = (torch.from_numpy(part.astype(np.float32)).view(n, *ones).to(images) for part in (gain, offset))
    moved = ((moved + 1) * scale - 1 + bright).clamp(-1, 1)
    if targets.ndim == 1:
        return moved, targets
    masks = functional.grid_sample(targets[:, None].float(), places, mode="nearest", padding_mode="border",
                                   align_corners=False)
    return moved, masks[:, 0].round().long()

"""What is exported of each kind of run: a module from plain inputs to images in the units of the training images.

Each has `inputs` (name -> an example), `outputs` (names) and `ranges` (the width of each, as a measure of
differences; label values have none), `mask_values` (of masks that go in or come out) and `target` (a domain, or "").
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.models._blocks import classes_of
from radsynth.models.progressive import Fading
from radsynth.tasks import chosen_target, draws_masks, paints, segments, takes_images
from radsynth.verbs._sampler import Sampler

EXAMPLES = 8
"""Images of an example."""


class Graph(nn.Module):
    """What the three have in common."""

    dark: Tensor
    range: Tensor

    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.task: Any = sampler.task
        network: Any = copy.deepcopy(sampler.network).cpu()
        for part in network.modules():
            if isinstance(part, Fading):  # what it has grown to, as constants: a graph cannot look into a buffer
                part.fades = partial(list, part.fades())  # type: ignore[method-assign]
        self.network = network
        self.inputs: dict[str, Tensor] = {}
        self.outputs: tuple[str, ...] = ("images",)
        self.mask_values: tuple[int, ...] = ()
        self.target = ""
        own = sampler.intensity.of_channels(1)
        low, width = ([one.low for one in own], [one.high - one.low for one in own])
        self.ranges: tuple[float, ...] = (max(width),)
        for name, numbers in (("dark", low), ("range", width)):
            self.register_buffer(name, torch.tensor(numbers).reshape(-1, *[1] * sampler.spec.dimensions))

    def real(self, images: Tensor) -> Tensor:
        """Network values as values in the units of the training images."""
        return (images.float().clamp(-1, 1) + 1) / 2 * self.range + self.dark

    def example(self, stream: str, *shape: int) -> Tensor:
        """Random numbers of item 0 to EXAMPLES of seed 0."""
        return Batch(images=torch.empty(EXAMPLES, 0), seed=0, items=tuple(range(EXAMPLES))).normal(stream, *shape)


class FromNoise(Graph):
    """Latents (n, latent) [and classes (n,), and numbers (n, k) in their own units] to images [and label values]."""

    lowest: Tensor
    widths: Tensor

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(sampler)
        self.masked = draws_masks(sampler.task)
        self.inputs = {"latent": self.example("latent", self.network.latent)}
        if classes := classes_of(sampler.spec):
            self.inputs["label"] = torch.arange(EXAMPLES) % classes
        quantiles = sampler.numbers.quantiles
        ends = torch.tensor([[line[0], line[-1]] for line in quantiles.values()]).reshape(-1, 2)
        self.register_buffer("lowest", ends[:, 0])
        self.register_buffer("widths", torch.where(ends[:, 1] > ends[:, 0], ends[:, 1] - ends[:, 0], 1))
        if quantiles:
            self.inputs["numbers"] = torch.linspace(0, 1, EXAMPLES)[:, None] * self.widths + self.lowest
        if self.masked:
            self.outputs, self.ranges = ("images", "masks"), (*self.ranges, 1.0)
            self.mask_values = sampler.spec.label_values

    def forward(self, latent: Tensor, label: Tensor | None = None, numbers: Tensor | None = None) -> Any:
        """Compute the images, with their masks where the run draws some."""
        scaled = () if numbers is None else (2 * (numbers - self.lowest) / self.widths - 1,)
        made: Tensor = self.network(latent, label, *scaled)
        if not self.masked:
            return self.real(made)
        images, masks = self.task.parted(made)
        return self.real(images), masks


class FromMasks(Graph):
    """Label values (n, *space) and latents of styles (n, latent) [and classes (n,)] to images."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(sampler)
        self.mask_values = self.task.values
        values = torch.tensor(self.mask_values)
        stripes = torch.arange(EXAMPLES)[:, None] + torch.arange(sampler.spec.size[0]) // 4
        masks = values[stripes % len(values)].reshape(EXAMPLES, -1, *[1] * (sampler.spec.dimensions - 1))
        self.inputs = {"mask": masks.expand(-1, *sampler.spec.size).contiguous(),
                       "latent": self.example("latent", self.network.latent)}
        if classes := classes_of(sampler.spec):
            self.inputs["label"] = torch.arange(EXAMPLES) % classes

    def forward(self, mask: Tensor, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute the images."""
        given = self.task.given(mask, label)
        return self.real(self.network(given, self.task.styles(self.network, given, latent)))


class FromImages(Graph):
    """Images (n, inputs, *space) in [-1, 1] to what the task makes of them, in [-1, 1], or label values."""

    def __init__(self, sampler: Sampler, target: str | None) -> None:
        super().__init__(sampler)
        self.target = chosen_target(self.task, target)
        self.mask_values = self.task.values if segments(self.task) else ()
        space = [side // fine for side, fine in zip(sampler.spec.size, self.task.finer, strict=True)]
        self.inputs = {"images": self.example("images", len(self.task.inputs), *space).clamp(-1, 1)}
        self.outputs, self.ranges = ("results",), (2.0,)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the results."""
        made: Tensor = self.task.convert(self.network, self.task.enlarge(images), self.target)
        return made.long() if segments(self.task) else made.float().clamp(-1, 1)  # as `apply` does before it maps back


def graph_of(sampler: Sampler, target: str | None = None) -> Graph:
    """The module to export of a run. target: the domain to go to, where the run can go to several.

    SettingsError for a target that the run does not know, or that its graph is told in another way.
    """
    if takes_images(sampler.task) and not paints(sampler.task):
        return FromImages(sampler, target).eval()
    if target is not None:
        raise SettingsError(f"target={target!r}: this run is not exported for one target. Where images have classes, "
                            "the graph has an input 'label'.")
    found: Graph = (FromMasks if paints(sampler.task) else FromNoise)(sampler)
    return found.eval()

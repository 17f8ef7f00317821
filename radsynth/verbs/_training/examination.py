"""What the training doctor looks at from time to time: logits of images seen, unseen and generated, and samples.

The discriminator is asked about images that it never saw (adaptive augmentation, Karras et al. 2020, "Training GANs
with limited data"), and samples are compared with real images, all together and those of each class alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from radsynth.arrays import Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.batch import Batch, Care
from radsynth.device import channels_last
from radsynth.models import Networks
from radsynth.verbs._training.compare import compare
from radsynth.verbs._training.parts import at_once, pieces_of

if TYPE_CHECKING:
    from radsynth.verbs._training.loop import Loop

PROBE = 64
"""Images that an examination looks at, of each sort; others each time, and averaged over about eight of them."""
OF_CLASS, CLASSES = 16, 8
"""Images of a class, and classes, that an examination looks at: their variety may be gone while all together vary."""


@runtime_checkable
class Judging(Protocol):
    """A task with a discriminator: without it only losses, gradients and weights can be watched.

    options: the task's settings
    augmentation: what its discriminator is shown in place of the images
    saturates: whether the generator's loss loses its gradient where the discriminator wins
    penalised: whether there is a penalty whose weight can be changed
    """

    options: Any
    augmentation: Augmentation
    saturates: bool
    penalised: bool

    def judge(self, networks: Networks, batch: Batch, images: Tensor) -> Tensor:
        """The discriminator's logits (n,) of images (n, c, *space) of the batch's classes, augmented as in training."""

    def get_redrawing_ready(self, prepared: Prepared, seed: int) -> None:
        """Called before `Care.redraw` is first prescribed, and again when a training that needs it goes on."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One examination. logits (n,) of images that are "trained", "held_out" and "generated"; distance: see `compare`.

    varieties: how much samples vary, as a share of real images, all together ("") and those of each class alone
    """

    logits: dict[str, Tensor]
    distance: float
    varieties: dict[str, float]


class Examiner:
    """Looks at a training without touching it: its random numbers are its own, and weights stay as they are.

    compared: which images samples are compared with, for texts: those held out, or where these are too few those of
    training
    """

    def __init__(self, task: Any, prepared: Prepared, seed: int) -> None:
        self.task, self.prepared, self.seed = task, prepared, seed
        self.train = prepared.indices("train")
        held_out = prepared.indices("validation")
        self.held_out = held_out if len(held_out) >= 8 else None
        self.compared = "training" if self.held_out is None else "held-out"

    def look(self, loop: Loop, care: Care, turn: int) -> Found:
        """Ask the discriminator and look at samples. turn: which of many classes have their turn"""
        task, networks = self.task, loop.networks
        draw = np.random.default_rng([self.seed, loop.step])
        seen = self._probe(draw, loop, self.train, care)
        held_out = seen if self.held_out is None else self._probe(draw, loop, self.held_out, care)
        modes = {name: network.training for name, network in networks.items()}
        for network in networks.values():
            network.eval()  # batch statistics must not move
        with loop.fabric.autocast():
            made = self._made(networks[task.keeps], held_out)
            shown = {"trained": seen, "held_out": held_out, "generated": replace(held_out, images=made)}
            logits = {name: _in_pieces(batch, lambda part: task.judge(networks, part, part.images)).float().cpu()
                      for name, batch in shown.items()}
            members = self._members()
            names = [*members]
            if len(names) > CLASSES:
                names = [names[(turn * CLASSES + k) % len(names)] for k in range(CLASSES)]
            varieties = {name: self._variety(draw, loop, networks[task.keeps], members[name]) for name in names}
        for name, network in networks.items():
            network.train(modes[name])
        varieties[""], distance = compare(made, held_out.images)
        return Found(logits=logits, distance=distance, varieties=varieties)

    def delivered(self, loop: Loop) -> dict[str, float]:
        """How much samples of the averaged generator vary, all together ("") and those of every class alone."""
        draw, network = np.random.default_rng([self.seed, loop.step]), loop.average.network
        groups = {"": self.train, **self._members()}
        with loop.fabric.autocast():
            return {name: self._variety(draw, loop, network, of, PROBE) for name, of in groups.items()}

    def _members(self) -> dict[str, NDArray[np.int64]]:
        """The training images of each class that has enough, by name; {} where there is one class."""
        names, labels = self.prepared.spec.labels, self.prepared.labels(self.train)
        members = {name: self.train[labels == label] for label, name in enumerate(names)} if len(names) > 1 else {}
        return {name: of for name, of in members.items() if len(of) >= OF_CLASS}

    def _variety(self, draw: np.random.Generator, loop: Loop, network: nn.Module, members: NDArray[np.int64],
                 count: int = OF_CLASS) -> float:
        real = self._probe(draw, loop, members, Care(), count)
        return compare(self._made(network, real), real.images)[0]

    def _made(self, network: nn.Module, batch: Batch) -> Tensor:
        return _in_pieces(batch, lambda part: self.task.sample(network, part))

    def _probe(self, draw: np.random.Generator, loop: Loop, indices: NDArray[np.int64], care: Care,
               count: int = PROBE) -> Batch:
        chosen, device = np.sort(draw.choice(indices, min(count, len(indices)), replace=False)), loop.fabric.device
        return Batch(images=channels_last(torch.from_numpy(self.prepared.images(chosen))).to(device),
                     labels=torch.from_numpy(self.prepared.labels(chosen)).to(device),
                     masks=self._masks(chosen, device),
                     conditions=torch.from_numpy(self.prepared.conditions(chosen)).to(device),
                     seed=self.seed + 2, items=tuple(range(len(chosen))), care=care)

    def _masks(self, chosen: NDArray[np.int64], device: torch.device) -> Tensor | None:
        spec = self.prepared.spec
        return torch.from_numpy(self.prepared.masks(chosen)).to(device) if spec.mask_classes else None


def _in_pieces(batch: Batch, function: Callable[[Batch], Tensor]) -> Tensor:
    """What a function makes of a batch, of as many images at once as memory is counted on for."""
    found = [function(part) for part in pieces_of(batch, at_once(len(batch.items), batch.images.shape[1:]))]
    return found[0] if len(found) == 1 else torch.cat(found)

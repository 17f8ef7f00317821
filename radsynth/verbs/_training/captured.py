"""A training step as one CUDA graph: its thousand small kernels are launched at once, not one by one from Python.

A graph repeats what was recorded with the same memory, so that everything which changes from step to step must be a
tensor that is filled anew: images, labels, random numbers, rates. What a step depends on besides, the task names
(`Repeatable`); each combination gets a graph of its own. Values are looked at one step later, so that the processor
gets the next batch ready while the GPU computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from radsynth.batch import Batch
from radsynth.tasks import Repeatable
from radsynth.verbs._training.optimisers import clear, move, norms

if TYPE_CHECKING:
    from radsynth.verbs._training.loop import Loop

BEFORE = 3
"""Steps of a kind that are taken one kernel at a time before one is recorded: libraries choose their ways in them."""
UNUSED = 1000
"""Steps after which a kind that no longer comes is dropped: each graph keeps the memory of a whole step."""
GRADIENT, WEIGHTS = "norm of the gradient", "norm of the weights"
Found = dict[str, tuple[dict[str, float], tuple[float, float]]]
"""What a step came to: for every network its turn's terms, and the norms of its gradients and weights."""


@dataclass(frozen=True, kw_only=True)
class Fixed(Batch):
    """A batch in memory that stays: `fill` puts the next one into it. Random numbers are kept by what was asked for."""

    clock: Tensor
    strength: Tensor
    drawn: dict[tuple[str, str, tuple[int, ...], int], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch) -> Fixed:
        """The same batch in memory of its own."""
        own = {part.name: getattr(batch, part.name) for part in dataclasses.fields(Batch)}
        own |= {name: value.clone() for name, value in own.items() if isinstance(value, Tensor)}
        device = batch.images.device
        return cls(**own, clock=torch.tensor(batch.progress, device=device),
                   strength=torch.tensor(batch.care.augment, device=device))

    def fill(self, batch: Batch) -> None:
        """Take in a batch of the same form: images, labels, random numbers, progress, strength of augmentation."""
        for name in ("images", "labels", "masks", "conditions"):
            if isinstance(mine := getattr(self, name), Tensor):
                mine.copy_(getattr(batch, name), non_blocking=True)
        for (kind, stream, shape, count), mine in self.drawn.items():
            mine.copy_(getattr(batch, kind)(stream, *shape)[:count], non_blocking=True)
        self.clock.fill_(batch.progress)
        self.strength.fill_(batch.care.augment)

    def now(self) -> Tensor:
        """As of `Batch`, in memory that stays."""
        return self.clock

    def augmenting(self) -> float | Tensor:
        """As of `Batch`, in memory that stays."""
        return self.strength if self.care.augment else 0.0

    def normal(self, stream: str, *shape: int) -> Tensor:
        """As of `Batch`, in memory that stays."""
        return self._kept("normal", stream, shape)

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """As of `Batch`, in memory that stays."""
        return self._kept("uniform", stream, shape)

    def _kept(self, kind: str, stream: str, shape: tuple[int, ...]) -> Tensor:
        key = (kind, stream, shape, len(self.items))  # of the first items, where a task takes no more
        if key not in self.drawn:
            self.drawn[key] = getattr(super(), kind)(stream, *shape)
        return self.drawn[key]


class Recorded:
    """Steps of one kind: their batches in memory that stays, and the graph once there is one.

    taken: steps before the graph; last: the loop's step that was the last of this kind
    """

    def __init__(self, batches: list[list[Batch]]) -> None:
        fixed: dict[int, Fixed] = {}
        self.batches = [[fixed.setdefault(id(batch), Fixed.of(batch)) for batch in turn] for turn in batches]
        self.taken = self.last = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.names: list[tuple[str, str]] = []
        self.values = torch.empty(0)

    def fill(self, batches: list[list[Batch]]) -> None:
        """Put the next batches into the memory of these."""
        pairs = {id(mine): (mine, given) for own, turn in zip(self.batches, batches, strict=True)
                 for mine, given in zip(own, turn, strict=True)}
        for mine, given in pairs.values():
            mine.fill(given)


class Values:
    """The values of a step on their way to the processor."""

    def __init__(self, names: list[tuple[str, str]], values: Tensor) -> None:
        self.names, self.here = names, values.to("cpu", non_blocking=True)
        self.arrived = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]
        if self.arrived:
            self.arrived.record()

    def found(self) -> Found:
        """Wait for them."""
        if self.arrived:
            self.arrived.synchronize()
        terms: dict[str, dict[str, float]] = {}
        for (network, name), value in zip(self.names, self.here.tolist(), strict=True):
            terms.setdefault(network, {})[name] = value
        return {network: (of, (of.pop(GRADIENT), of.pop(WEIGHTS))) for network, of in terms.items()}


class Graphs:
    """The recorded steps of one training, by kind of step."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.kinds: dict[Hashable, Recorded] = {}
        self.last: Values | None = None
        parts = [part for network in loop.networks.values() for part in network.modules()]
        self.refused = any(getattr(part, "asks", False) for part in parts)

    def kind(self, batches: list[list[Batch]]) -> Hashable | None:
        """What tells this step from others that are not the same; None where it cannot be recorded."""
        loop = self.loop
        if self.refused or loop.gradients.parts > 1 or loop.growing or not isinstance(loop.task, Repeatable):
            return None
        found = tuple(loop.task.constant(batch) for turn in batches for batch in turn)
        return None if None in found else found

    def forget(self) -> None:
        """Drop all graphs: the optimisers' memory is not the same any more."""
        self.kinds.clear()
        self.last = None

    def refuse(self) -> None:
        """Record nothing any more."""
        self.refused = True
        self.forget()

    def step(self, kind: Hashable, batches: list[list[Batch]]) -> Found:
        """All turns of a step; what the step before came to, {} for the first one.

        RuntimeError where it cannot be recorded: nothing has been done then. Where memory ran out in one of the first
        steps, the turns before that one have been taken.
        """
        if kind not in self.kinds:
            self.kinds[kind] = Recorded(batches)
        recorded, now = self.kinds[kind], self.loop.step
        recorded.fill(batches)
        recorded.last = now
        if now % UNUSED == 0:
            self.kinds = {key: other for key, other in self.kinds.items() if now - other.last < UNUSED}
        if recorded.graph is None and recorded.taken < BEFORE:
            recorded.taken += 1
            self._beside(recorded)
        else:
            if recorded.graph is None:
                recorded.graph = self._record(recorded)
            recorded.graph.replay()
        before, self.last = self.last, Values(recorded.names, recorded.values)
        return before.found() if before else {}

    def _beside(self, recorded: Recorded) -> None:
        """One step as usual, on a stream of its own, as recording wants it."""
        main, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(main)
        with torch.cuda.stream(side):
            self.work(recorded)
        main.wait_stream(side)

    def _record(self, recorded: Recorded) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for optimiser in self.loop.optimisers:
            clear(optimiser)  # so that the graph has gradients of its own
        with torch.cuda.graph(graph):
            self.work(recorded)
        return graph

    def work(self, recorded: Recorded) -> None:
        """What the device does in a step; nothing in it may ask for a value."""
        loop, values = self.loop, dict[tuple[str, str], Tensor]()
        for turn, optimiser, batches in zip(loop.turns, loop.optimisers, recorded.batches, strict=True):
            for batch in batches:
                terms = loop.gradients.in_parts(turn, optimiser, batch)
                if not terms:
                    break
                gradient, weights = norms(optimiser)
                move(optimiser, loop.options.clip)
                if turn.after:
                    turn.after(loop.networks)
                network = turn.nets[0]
                values |= {(network, name): value for name, value in terms.items()}
                values |= {(network, GRADIENT): gradient, (network, WEIGHTS): weights}
        recorded.names = list(values)
        recorded.values = torch.stack([value.detach().float() for value in values.values()])

"""One training's state and its step: turns and batches, and no task. `train` drives it."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from radsynth.arrays import Prepared, PreparedWithMasks
from radsynth.batch import Batch, Care
from radsynth.checkpoints import all_finite, save_checkpoint
from radsynth.device import Precision, here, keep_freed_memory, module_channels_last
from radsynth.errors import TrainingError
from radsynth.models import Networks, growing
from radsynth.parallel import Ranks, share_batch_norm
from radsynth.run_folder import RunFolder
from radsynth.tasks import Private, Recalling, Studious, Task, Turn, Varying, draws_masks
from radsynth.verbs._training.average import APART, Average
from radsynth.verbs._training.batches import Batches
from radsynth.verbs._training.captured import Found, Graphs
from radsynth.verbs._training.doctor import Doctor
from radsynth.verbs._training.gradients import Gradients
from radsynth.verbs._training.optimisers import adam, move, norms, restore, set_rate, state_of, weights_of
from radsynth.verbs._training.options import Settings
from radsynth.verbs._training.samples import Samples
from radsynth.verbs._training.selection import Selection
from radsynth.verbs._training.start import Start, lower_layers

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Loop:
    """One training: networks, optimisers, average, counters; `state` and `restore` save it."""

    def __init__(self, task: Task, options: Settings, prepared: Prepared, folder: RunFolder, seed: int,
                 ranks: Ranks | None = None, start: Start | None = None) -> None:
        prepared = PreparedWithMasks(prepared.folder) if draws_masks(task) else prepared
        self.task, self.options, self.prepared, self.folder, self.seed = task, options, prepared, folder, seed
        self.ranks = ranks or Ranks()
        self.fabric = _fabric(options.precision, self.ranks.local)
        torch.manual_seed(seed)
        self.private = task if isinstance(task, Private) else None
        self.promise = ""
        if self.private:
            self.promise = self.private.promise(prepared, options.batch, options.images, self.ranks.size)
        if isinstance(task, Studious) and not (start and isinstance(task, Recalling)):
            task.study(prepared, seed)
        fresh = task.networks()
        if start:
            start.give(task, fresh, prepared.spec)
        self.networks: Networks = {
            name: module_channels_last(network, prepared.spec.dimensions).to(self.fabric.device).train()
            for name, network in fresh.items()
        }
        if self.ranks.size > 1:
            self.networks = {name: share_batch_norm(network) for name, network in self.networks.items()}
        # To look for them in the modules takes as long as a layer.
        self.weights = {name: list(network.parameters()) for name, network in self.networks.items()}
        self.growing = growing(self.networks)
        self.frozen = [weight for name, network in self.networks.items() if name.startswith("discriminator")
                       for weight in lower_layers(network, options.freeze)]
        self.average = Average(self.networks[task.keeps], options.average)
        self.turns = task.turns()
        on_gpu = self.fabric.device.type == "cuda"
        self.graphs = Graphs(self) if options.graphs and on_gpu and self.ranks.size == 1 else None
        self.optimisers = [self._optimiser(turn) for turn in self.turns]
        self.batches = Batches(prepared, self.fabric.device, options.balance, seed, hidden=self.private is not None)
        watched = options.doctor and not self.private  # the doctor looks at patients
        self.doctor = Doctor(task, prepared, folder, seed) if watched else None
        draws = hasattr(self.average.network, "latent") and not self.private
        self.selection = Selection(prepared, seed) if options.select and draws else None
        self.step = self.images = self.item = 0
        self.seconds = self.reached = 0.0
        self.gradients, self.samples = Gradients(self, options.accumulate), Samples(self)

    def _optimiser(self, turn: Turn) -> torch.optim.Optimizer:
        still = {id(weight) for weight in self.frozen}
        parameters = [p for name in turn.nets for p in self.weights[name] if id(p) not in still]
        betas = (self.options.beta1, self.options.beta2)
        return adam(parameters, self.options.rate * turn.rate, betas, recorded=self.graphs is not None)

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        options = self.options
        shares = [self.images / options.images] if options.images else []
        shares += [self.seconds / options.seconds] if options.seconds else []
        return min(1.0, max(shares))

    @property
    def stage(self) -> float:
        """The same, but never less than a run with a smaller budget has reached before it got this one: what is past,
        such as a warm start or the growth of networks, does not come back. Rates and batches follow `progress`."""
        return max(self.progress, self.reached)

    @property
    def size(self) -> int:
        """Images a turn now, over all processes."""
        return max(self.options.batch, self.options.batch_end) if self.grown else self.options.batch

    @property
    def grown(self) -> bool:
        """Whether batches have grown."""
        return self.progress >= self.options.grow_at and self.images >= self.options.grow_images

    @property
    def care(self) -> Care:
        """What batches carry: what the doctor prescribes, and the augmentation that larger batches need."""
        care, least = self.doctor.care if self.doctor else Care(), self.augmented
        return dataclasses.replace(care, augment=least) if care.augment < least and not care.spared else care

    @property
    def augmented(self) -> float:
        """The least strength of augmentation now."""
        return self.options.augment_end if self.grown else 0.0

    @property
    def finished(self) -> bool:
        """Whether the budget is spent, or the training was ended before."""
        return self.progress >= 1 or bool(self.ended_by)

    @property
    def ended_by(self) -> str:
        """The setting of `train` that has ended the training, as samples only became worse; "" where none has."""
        if self.doctor and self.doctor.signs.finished:
            return "doctor"
        return "select" if self.selection and self.selection.finished else ""

    def batch(self) -> Batch:
        """This process's part of the next items: real images in their epoch's order, with their own random numbers."""
        size = self.size
        items = range(self.item, self.item + size)[self.ranks.part(size)]
        self.item += size
        drawn = self.batches.next(items, step=self.step, progress=self.stage, care=self.care)
        return self.task.vary(drawn) if isinstance(self.task, Varying) else drawn

    def rate(self) -> float:
        """The learning rate now, as a share of its highest: a short rise, a plateau, a fall; all linear."""
        progress, options = self.progress, self.options
        rise = min(1.0, (progress + 1e-3) / options.warmup) if options.warmup else 1.0
        left = min(1.0, (1 - progress) / options.fall) if options.fall else 1.0
        return rise * (options.rate_end + (1 - options.rate_end) * left)

    def take_step(self) -> dict[str, float]:
        """Every turn once (or as often as it repeats); the logged terms by name."""
        for part in self.growing:
            part.advance(self.stage)
        self._set_rates()
        batches = self._batches()
        kind = self.graphs.kind(batches) if self.graphs else None
        logged = self._repeat(kind, batches) if kind is not None else self._take_turns(batches)
        self.step += 1
        before, size = self.images, self.size
        self.images += size
        self.average.update(self.networks[self.task.keeps], self.step, size, self.images)
        if self.doctor:
            if self.doctor.due(self, before):
                self.doctor.examine(self)
            logged |= self.doctor.measured
        if self.selection:
            if self.selection.due(self, before):
                self.selection.measure(self)
            logged |= self.selection.measured
        return logged

    def _set_rates(self) -> None:
        scale = self.rate()
        for turn, optimiser in zip(self.turns, self.optimisers, strict=True):
            factor = self.doctor.rate(turn) if self.doctor else 1.0
            set_rate(optimiser, self.options.rate * turn.rate * scale * factor)

    def _batches(self) -> list[list[Batch]]:
        """The batches of every turn; the last of each is the same one."""
        last = self.batch()
        return [[*(self.batch() for _ in range(turn.repeats - 1)), last] for turn in self.turns]

    def _take_turns(self, batches: list[list[Batch]]) -> dict[str, float]:
        logged: dict[str, float] = {}
        for turn, optimiser, given in zip(self.turns, self.optimisers, batches, strict=True):
            for batch in given:
                terms = self._turn(turn, optimiser, batch)
            logged |= _by_name(turn.nets[0], terms)
        return logged

    def _turn(self, turn: Turn, optimiser: torch.optim.Optimizer, batch: Batch) -> dict[str, float]:
        terms = self.gradients.compute(turn, optimiser, batch)
        totals = self.ranks.average(weights_of(optimiser), {name: float(term) for name, term in terms.items()})
        if not totals:
            return {}
        totals |= self._examined(turn.nets[0], totals, lambda: norms(optimiser))
        move(optimiser, self.options.clip)
        if turn.after:
            turn.after(self.networks)
        return totals

    def _repeat(self, kind: Hashable, batches: list[list[Batch]]) -> dict[str, float]:
        """A step as a graph; the logged terms are those of the one before."""
        assert self.graphs is not None
        try:
            found = self.graphs.step(kind, batches)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
        else:
            return self._looked_at(found)
        # Outside of `except`, which keeps the tensors alive.
        self.graphs.refuse()
        self.folder.event("no graph", self.images, (
            f"This step cannot be recorded as a CUDA graph ({reason}). Steps are launched one kernel at a time from "
            "here on: slower, the same otherwise. train.graphs=false does so from the start."))
        return self._take_turns(batches)

    def _looked_at(self, found: Found) -> dict[str, float]:
        logged: dict[str, float] = {}
        for network, (totals, measured) in found.items():
            logged |= _by_name(network, totals | self._examined(network, totals, partial(tuple, measured)))
        return logged

    def _examined(self, network: str, totals: dict[str, float], norms: Callable[[], Iterable[Any]],
                  ) -> dict[str, float]:
        """The last norms; TrainingError where values are not finite or training has run away."""
        for name, total in totals.items():
            if not math.isfinite(total):
                raise TrainingError(f"{network}/{name} is not finite after {self.images} images.")
        return self.doctor.feel(network, totals, self.step, norms) if self.doctor else {}

    def state(self) -> dict[str, Any]:
        """Everything that training depends on."""
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimisers": [state_of(optimiser) for optimiser in self.optimisers],
            "average": self.average.network.state_dict(),
            "studied": self.task.studied() if isinstance(self.task, Recalling) else {},
            "random": torch.get_rng_state(),
            "step": self.step, "images": self.images, "item": self.item, "seconds": self.seconds, "stage": self.stage,
            "accumulate": self.gradients.parts, "waiting": self.average.waiting,
            "doctor": self.doctor.state() if self.doctor else None,
            "selection": self.selection.state() if self.selection else None,
            "private": self.private.state() if self.private else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            restore(optimiser, saved)
        if self.graphs:
            self.graphs.forget()
        self.average.network.load_state_dict(state["average"])
        # An older run did not write it down, and counted its steps as equally large.
        self.average.waiting = state.get("waiting", state["step"] % APART * self.options.batch)
        if isinstance(self.task, Recalling):
            self.task.recall(state.get("studied", {}), resumed=True)
        torch.set_rng_state(state["random"])
        self.step, self.images, self.item = state["step"], state["images"], state["item"]
        self.reached = state.get("stage", 0.0)  # an older run did not write it down
        self.seconds, self.gradients.parts = state["seconds"], max(self.gradients.parts, state["accumulate"])
        if self.doctor:
            self.doctor.restore(state["doctor"], self.progress)
        if self.selection and state["selection"]:  # an older run has none where validation images were few
            self.selection.restore(state["selection"])
        if self.private:
            self.private.restore(state["private"])

    def save(self) -> None:
        """Write a checkpoint, unless a weight is not finite: then the last good one must stay the last."""
        state = self.state()
        if not all_finite(state):
            raise TrainingError(f"weights are not finite after {self.images} images.")
        if self.ranks.first:
            save_checkpoint(self.folder.checkpoints, self.images, state, {
                "step": self.step, "seconds": self.seconds, "logged": self.folder.logged()})
        self.ranks.wait()


def _fabric(precision: Precision | Literal["auto"], local: int) -> Fabric:
    """This machine's device and numeric format; of several GPUs that with the number `local`."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the numeric format
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # sizes never change
    device = here()
    # Fabric sees one process, whatever started it: `parallel` joins them, see there.
    return Fabric(accelerator=device.accelerator, devices=[local] if device.accelerator == "cuda" else 1,
                  precision=device.precision if precision == "auto" else precision,
                  plugins=[LightningEnvironment()])


def _by_name(network: str, terms: dict[str, float]) -> dict[str, float]:
    return {f"{network}/{name.lstrip('_')}": value for name, value in terms.items()}

"""The gradients of one turn, of a batch in as many parts as memory asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from radsynth.batch import Batch
from radsynth.errors import OutOfMemory, out_of_memory
from radsynth.tasks import Terms, Turn, needs_both_sides
from radsynth.verbs._training.optimisers import clear
from radsynth.verbs._training.parts import more_parts, parts_of

if TYPE_CHECKING:
    from radsynth.verbs._training.loop import Loop


class Gradients:
    """Computes the gradients of a training's turns; parts: into how many each batch is cut now."""

    def __init__(self, loop: Loop, parts: int) -> None:
        self.loop, self.parts = loop, parts

    def compute(self, turn: Turn, optimiser: torch.optim.Optimizer, batch: Batch) -> Terms:
        """The turn's gradients and its terms without their graphs; {} when it is left out.

        Where memory runs out batches are cut into more parts from then on. Raises OutOfMemory where they cannot be.
        """
        while True:
            try:
                return self.in_parts(turn, optimiser, batch)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                clear(optimiser)
                reason = str(error).splitlines()[0]
            self._use_less_memory(len(batch.items), reason)  # outside of `except`, which keeps the tensors alive

    def in_parts(self, turn: Turn, optimiser: torch.optim.Optimizer, batch: Batch) -> Terms:
        """The same with the number of parts as it is, whatever memory does."""
        loop = self.loop
        for name, weights in loop.weights.items():
            # Weights that do not move in this turn need no gradients: a third of the generator's turn.
            wanted = name in turn.nets or (name in turn.makes and self.parts == 1)
            for weight in weights:
                weight.requires_grad_(wanted)
        for weight in loop.frozen:
            weight.requires_grad_(False)
        clear(optimiser)
        if turn.gradients:
            return turn.gradients(loop.networks, batch)
        totals: Terms = {}
        for part in parts_of(batch, self.parts):
            with loop.fabric.autocast():
                terms: Terms = turn.loss(loop.networks, part)
            if not terms:
                continue
            loss = torch.stack([value for name, value in terms.items() if not name.startswith("_")]).sum()
            loop.fabric.backward(loss / self.parts)
            for name, term in terms.items():
                part_of = term.detach() / self.parts
                totals[name] = totals[name] + part_of if name in totals else part_of
        return totals

    def memory_ran_out(self, reason: str = "") -> str:
        """What to tell when memory ends in the middle of a step."""
        loop, more = self.loop, self._more_parts()
        at_once = loop.size // loop.ranks.size // self.parts
        advice = f"train.accumulate={more}, a smaller train.batch," if more else "a smaller model.width"
        return (f"Memory ran out{reason and f' ({reason})'} with {at_once} image{'s' * (at_once > 1)} at a time. Set "
                f"{advice} or a smaller prepare.size. What was saved before is kept in {loop.folder.checkpoints}.")

    def _more_parts(self) -> int | None:
        """The next number of parts that batches can be computed in, those of later steps too."""
        loop, options = self.loop, self.loop.options
        if loop.private:  # its turn holds the gradients of so many patients at once, whatever the parts
            return None
        sizes = [size // loop.ranks.size for size in (options.batch, max(options.batch, options.batch_end))]
        return more_parts(self.parts, sizes, least=2 if needs_both_sides(loop.task) else 1)

    def _use_less_memory(self, items: int, reason: str) -> None:
        """Compute batches in more parts; OutOfMemory where that cannot be done."""
        loop, parts = self.loop, self._more_parts()
        if parts is None or loop.ranks.size > 1:  # several processes must stay in step
            raise OutOfMemory(self.memory_ran_out(reason))
        self.parts = parts
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        loop.folder.event("less memory", loop.images, (
            f"Memory ran out ({reason}). From now on a batch of {items} is computed in {parts} parts of "
            f"{items // parts}; train.accumulate={parts} does so from the start."
        ))

"""The training doctor's finger: losses at every step, norms of gradients and weights every few, what has run away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from radsynth.errors import TrainingError

PULSE = 8
"""Steps between two measurements of the norms of weights and gradients."""
RUN_AWAY = 1e5
"""Losses of this size, averaged over about ten turns, mean that training has run away."""
GROWTH = 3.0
"""Weights that grow by this factor within `PULSE` steps are thrown about, not trained."""


@dataclass
class Pulse:
    """Averages of losses by network and term; of norms, "gradient" and "weights", by network."""

    norms: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)

    def feel(self, name: str, totals: dict[str, float], step: int, norms: Callable[[], Iterable[Any]],
             ) -> dict[str, float]:
        """After a turn's backward pass: raises TrainingError where it has run away; returns the last norms.

        norms: gives those of gradients and weights; asked every `PULSE` steps
        """
        for term, value in totals.items():
            key = f"{name}/{term}"
            self.losses[key] = 0.9 * self.losses[key] + 0.1 * abs(value) if key in self.losses else abs(value)
            if self.losses[key] > RUN_AWAY:
                raise TrainingError(f"{key} has run away: it is about {self.losses[key]:.0e}.")
        if step % PULSE == 0:
            gradient, size = (float(value) for value in norms())
            self._take(name, gradient, size)
        felt = self.norms.get(name, {})
        return {f"_{key}_norm": felt[key] for key in ("gradient", "weights") if key in felt}

    def felt_other_than(self, network: str) -> bool:
        """Whether another network than this one has been trained, as in a warm start none is."""
        return any(not key.startswith(f"{network}/") for key in self.losses)

    def _take(self, name: str, gradient: float, size: float) -> None:
        if not math.isfinite(gradient + size):
            raise TrainingError(f"the gradient or the weights of the {name} are not finite.")
        felt = self.norms.setdefault(name, {"gradient": gradient, "weights": size})
        grown = size / max(felt["weights"], 1e-12)
        if grown > GROWTH:
            raise TrainingError(f"the weights of the {name} grew {grown:.0f}-fold within {PULSE} steps.")
        felt["gradient"] = 0.8 * felt["gradient"] + 0.2 * gradient
        felt["weights"] = size

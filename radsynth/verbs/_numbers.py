"""The numbers (age, spacing, position) that images are made with: asked for, or drawn as in the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth._rounding import rounded
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.settings import nearest


class Numbers:
    """The numbers of each image of a run.

    quantiles: of each number over the training images, at equal steps; at: numbers that every image is to have.
    SettingsError for a number that the run has not learned, or a value that no training image reached.
    """

    def __init__(self, quantiles: dict[str, list[float]], at: Mapping[str, float]) -> None:
        for name, value in at.items():
            if name not in quantiles:
                raise SettingsError(f"{name}={rounded(value)}: this run has learned no such number"
                                    f"{nearest(name, quantiles)}; there are: {', '.join(quantiles) or 'none'}.")
            low, high = quantiles[name][0], quantiles[name][-1]
            if not low <= value <= high:
                raise SettingsError(f"{name}={rounded(value)}: training images had {rounded(low)} to "
                                    f"{rounded(high)}; ask for one of these.")
        self.quantiles, self.at = quantiles, at

    def of(self, items: Sequence[int], seed: int) -> NDArray[np.float64]:
        """(n, k): each number is drawn by itself, not jointly with the others or the class, by (seed, item) alone."""
        draw = Batch(images=torch.empty(len(items), 0), seed=seed, items=tuple(items)).uniform(
            "condition", len(self.quantiles)).numpy()
        columns = [np.full(len(items), self.at[name]) if name in self.at else _drawn(draw[:, k], line)
                   for k, (name, line) in enumerate(self.quantiles.items())]
        return np.stack(columns, axis=1) if columns else np.empty((len(items), 0))

    def told(self, rows: list[dict[str, object]], seed: int) -> list[dict[str, object]]:
        """The rows of samples.csv, each with its image's numbers."""
        drawn = self.of([int(str(row["index"])) for row in rows], seed).round(6).tolist()
        return [{**row, **dict(zip(self.quantiles, numbers, strict=True))}
                for row, numbers in zip(rows, drawn, strict=True)]


def _drawn(shares: NDArray[np.float32], quantiles: list[float]) -> NDArray[np.float64]:
    """Numbers below which such shares of the training images lie; of findings, which are 1 or 0, one of these."""
    found = np.interp(shares, np.linspace(0, 1, len(quantiles)), quantiles)
    between = len(set(quantiles) - {0.0, 1.0})
    return found.round() if (quantiles[0], quantiles[-1]) == (0, 1) and between <= 1 else found

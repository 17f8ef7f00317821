"""A small classifier of features: softmax regression with a ridge penalty, fitted by L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """mean, deviation: (d,) of the training features; weights: (d, classes); bias: (classes,)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, d) -> (n, classes), rows sum to 1."""
        logits = (features - self.mean) / self.deviation @ self.weights + self.bias
        return np.asarray(torch.from_numpy(logits).softmax(1).numpy(), dtype=np.float32)


def better_than_guessing(right: NDArray[np.bool_], labels: NDArray[np.int64]) -> bool:
    """Whether a classifier is right (n,) more often than always naming the commonest of the classes (n,), by more than
    two standard errors of that."""
    guessed = np.bincount(labels).max() / len(labels)
    return bool(right.mean() > guessed + 2 * np.sqrt(guessed * (1 - guessed) / len(labels)))


def fit(features: NDArray[np.float32], labels: NDArray[np.int64], ridge: float = 1e-2, steps: int = 60) -> Classifier:
    """Fit to features (n, d) and class indices (n,) from 0; the same input gives the same classifier."""
    mean, deviation = features.mean(0), features.std(0) + np.float32(1e-6)
    x, y = torch.from_numpy((features - mean) / deviation), torch.from_numpy(labels)
    weights = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
    bias = torch.zeros(weights.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weights + bias, y) + ridge * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]  # torch has no type for it
    return Classifier(mean=mean, deviation=deviation, weights=weights.detach().numpy(), bias=bias.detach().numpy())

"""Learns which styles are usual for a mask, from training images: ridge regression (Hoerl and Kennard 1970), and what
it leaves open in patients that it has not seen."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

FOLDS = 5
"""Parts of the patients, each of which is predicted from the others."""
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
"""Weights of the penalty that are tried, as multiples of the mean square of a mask's numbers."""


def _regression(seen: Tensor, codes: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    mean, centre = seen.mean(0), codes.mean(0)
    known = seen - mean
    # Through the masks' products with each other: there are fewer masks than numbers in each.
    products = known @ known.T
    products.diagonal().add_(ridge * products.diagonal().mean() + 1e-6)
    return mean, known.T @ torch.linalg.solve(products, codes - centre), centre


def usual_styles(seen: Tensor, codes: Tensor, patients: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, weights, centre and spread for `UsualStyles`, from masks (n, features) and codes (n, latent) of images.

    The ridge is the one that predicts patients best that are left out; where none does better than the mean code,
    styles do not depend on the mask. The spread has the covariance of these predictions' errors.
    """
    folds = torch.from_numpy(np.unique(patients, return_inverse=True)[1].reshape(-1) % FOLDS)
    mean, centre = seen.mean(0), codes.mean(0)
    best, errors, chosen = float(functional.mse_loss(codes, centre.expand_as(codes))), codes - centre, None
    if int(folds.max()) > 0:  # one patient says nothing about others
        for ridge in RIDGES:
            left = torch.empty_like(codes)
            for fold in range(int(folds.max()) + 1):
                own = folds == fold
                about, weights, base = _regression(seen[~own], codes[~own], ridge)
                left[own] = codes[own] - (seen[own] - about) @ weights - base
            if (error := float(left.square().mean())) < best:
                best, errors, chosen = error, left, ridge
    weights = seen.new_zeros(seen.shape[1], codes.shape[1])
    if chosen is not None:
        mean, weights, centre = _regression(seen, codes, chosen)
    errors = errors - errors.mean(0)
    values, vectors = torch.linalg.eigh(errors.T @ errors / len(errors))
    return mean, weights, centre, vectors * values.clamp_min(0).sqrt() @ vectors.T

"""Contrastive losses: what belongs together is alike, and unlike everything else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


# -log(exp(q.k / t) / (exp(q.k / t) + sum over other places of exp(q.k' / t))), q and k of length 1 (Park et al. 2020,
# eq. 3; Oord et al. 2018)
def patch_contrast(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE of vectors (n, places, width): a query belongs to the key of its place, the image's others are wrong."""
    # In fp32: differences of similarities are divided by a small temperature.
    with torch.autocast(queries.device.type, enabled=False):
        q, k = (functional.normalize(vectors.float(), dim=2) for vectors in (queries, keys))
        scores = q @ k.transpose(1, 2) / temperature
        right = torch.arange(scores.shape[1], device=scores.device).expand(len(scores), -1)
        return functional.cross_entropy(scores.flatten(0, 1), right.flatten())

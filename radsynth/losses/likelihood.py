"""Terms of the evidence lower bound of variational autoencoders, in nats per image."""

from __future__ import annotations

import math

from torch import Tensor


# KL(N(m, s^2) || N(0, 1)) = 1/2 sum (m^2 + s^2 - 1 - log s^2)  (Kingma and Welling 2014, appendix B)
def divergence_from_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """How far posteriors, given as (n, d) each, are from the standard normal; the mean over images."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


# -log N(x; y, v) = D/2 (log(2 pi v) + (x - y)^2 / v), at the best common v = mean (x - y)^2:  D/2 (log(2 pi v) + 1)
# (Rybkin, Daniilidis and Levine 2021, sigma-VAE, eq. 5). The variance is learned in effect, so that beta = 1 is right.
def calibrated_normal(result: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of images (n, c, *space) under the one variance that explains the batch best."""
    variance = (result.float() - target.float()).square().mean()
    # Stored images have at least 1/255 of the range as a step: finer agreement means nothing.
    return 0.5 * target[0].numel() * (math.log(2 * math.pi) + 1 + (variance + 1e-5).log())

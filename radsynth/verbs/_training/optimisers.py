"""The optimisers of a training, one a turn: their rates, what is saved of them, and the weights that they move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Optimiser = torch.optim.Optimizer


def adam(weights: list[nn.Parameter], rate: float, betas: tuple[float, float], recorded: bool) -> Optimiser:
    """Adam; `recorded`: for steps that a graph repeats, which keeps numbers as they were, so that rates are tensors."""
    return torch.optim.Adam(weights, lr=torch.tensor(rate, device=weights[0].device) if recorded else rate,
                            betas=betas, fused=True, capturable=recorded)


@torch.no_grad()
def move(optimiser: Optimiser, clip: float = 0.0) -> None:
    """One step of `adam`'s optimiser: the same call of torch, without all that `step` looks up before it.

    In networks this small that takes a third of the optimiser's time, which a second thread does not shorten.
    clip: norm that all gradients together have at most; 0: as long as they are
    """
    group, = optimiser.param_groups
    weights = [weight for weight in group["params"] if weight.grad is not None]
    if clip:
        _shorten([weight.grad for weight in weights], clip)
    moments = [optimiser.state[weight] for weight in weights]
    if not all(moments):  # a weight's first step makes them
        optimiser.step()
        return
    (beta1, beta2), steps = group["betas"], [of["step"] for of in moments]
    gradients = [weight.grad for weight in weights]
    # Without a memory the first moment is the gradient, and need not be written to memory a second time.
    first = gradients if beta1 == 0 and not group["capturable"] else [of["exp_avg"] for of in moments]
    torch._foreach_add_(steps, 1)
    torch._fused_adam_(
        weights, gradients, first, [of["exp_avg_sq"] for of in moments], [], steps, lr=group["lr"], beta1=beta1,
        beta2=beta2, weight_decay=0.0, eps=group["eps"], amsgrad=False, maximize=False)


# g <- g min(1, longest / |g|), |g| over all weights (Pascanu et al. 2013, algorithm 1)
def _shorten(gradients: list[Tensor], longest: float) -> None:
    torch._foreach_mul_(gradients, (longest / torch.nn.utils.get_total_norm(gradients)).clamp_max(1))


def set_rate(optimiser: Optimiser, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def weights_of(optimiser: Optimiser) -> list[nn.Parameter]:
    """The weights that an optimiser moves."""
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def clear(optimiser: Optimiser) -> None:
    """`zero_grad` without what torch does around it."""
    for weight in weights_of(optimiser):
        weight.grad = None


def norms(optimiser: Optimiser) -> tuple[Tensor, Tensor]:
    """Norms of the gradients and of the weights that an optimiser moves."""
    weights = weights_of(optimiser)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return torch.nn.utils.get_total_norm(gradients), torch.nn.utils.get_total_norm(weights)


def state_of(optimiser: Optimiser) -> dict[str, Any]:
    """What is saved: rates as numbers, whatever the device."""
    state = optimiser.state_dict()
    return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}


def restore(optimiser: Optimiser, saved: dict[str, Any]) -> None:
    """Go on from a saved state of any device; the rate keeps this one's form until it is set."""
    forms = [{name: group[name] for name in ("lr", "capturable")} for group in optimiser.param_groups]
    optimiser.load_state_dict(saved)
    for group, form in zip(optimiser.param_groups, forms, strict=True):
        group.update(form)
    for parameter, moments in optimiser.state.items():
        for key, value in moments.items():
            if value.shape == parameter.shape:  # files hold plain layouts; the fused step wants the weight's
                moments[key] = torch.empty_like(parameter).copy_(value)

"""Inversion: the code whose image is nearest to a given image, by gradient descent from several starts.

The loss is pixels at three scales and, where there is a discriminator, its features (Xia et al. 2022, "GAN inversion: a
survey", section 3). What cannot be redrawn, the generator has not learned: the error is the finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from radsynth.models._averages import averaged
from radsynth.models._equalised import EqualisedConvolution
from radsynth.verbs._steering.latents import LatentSpace, chunks

FEATURE_WEIGHT = 0.05
"""Weight of the features' relative error beside the pixels' mean squared error in [-1, 1]."""
PRIOR_WEIGHT = 1e-3
"""Weight that keeps codes where codes are drawn, for networks whose codes lie on no sphere."""

Features = Callable[[Tensor, Tensor | None], list[Tensor]]


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """codes: (n, length); images: (n, c, *space), redrawn; nearest: (n, c, *space), the best of the images drawn.

    loss: (n,) of the best start; spread: (n,) largest difference of loss between the starts
    """

    codes: Tensor
    images: Tensor
    nearest: Tensor
    loss: Tensor
    spread: Tensor


def layer_features(discriminator: nn.Module, numbers: Tensor | None = None) -> Features:
    """A function that gives what every convolution (of a perceptron: every layer) makes of images, which have the
    `numbers` (n, k); None: the middle of each."""
    kinds = (nn.modules.conv._ConvNd, EqualisedConvolution)
    every = list(discriminator.modules())
    layers: list[nn.Module] = [one for one in every if isinstance(one, kinds)]
    if not layers:
        layers += [one for one in every if isinstance(one, nn.Linear)][:-1]

    def features(images: Tensor, labels: Tensor | None) -> list[Tensor]:
        seen: list[Tensor] = []
        handles = [layer.register_forward_hook(lambda module, given, made: seen.append(made)) for layer in layers]
        try:
            discriminator(images, labels, *(() if numbers is None else (numbers,)))
        finally:
            for handle in handles:
                handle.remove()
        return seen

    return features


@torch.no_grad()
def starting_codes(space: LatentSpace, targets: Tensor, labels: Tensor | None, candidates: int, starts: int, seed: int,
                   ) -> tuple[Tensor, Tensor]:
    """For each target the `starts` nearest of the images drawn (by pixels averaged down): (n, starts, length).

    Also the nearest image of each (n, c, *space). With classes, each target is compared with images of its own.
    """
    codes, nearest = [], []
    drawn: dict[int, tuple[Tensor, Tensor]] = {}
    for index, target in enumerate(targets):
        label = -1 if labels is None else int(labels[index])
        if label not in drawn:
            classes = None if label < 0 else space.classes_of(candidates, label)
            some = space.drawn(range(candidates), seed, classes)
            drawn[label] = some, _drawn_small(space, some, classes)
        some, small = drawn[label]
        distance = (small - _small(target[None])).square().flatten(1).mean(1)
        order = distance.argsort()[:starts]
        codes.append(some[order])
        nearest.append(space.images(some[order[:1]], None if label < 0 else space.classes_of(1, label))[0])
    return torch.stack(codes), torch.stack(nearest)


def _drawn_small(space: LatentSpace, codes: Tensor, classes: Tensor | None) -> Tensor:
    """Images of codes, averaged down as they are made: so many large ones, or volumes, may not fit into memory."""
    return torch.cat([_small(space.images(codes[rows], None if classes is None else classes[rows]))
                      for rows in chunks(len(codes))])


def invert(space: LatentSpace, targets: Tensor, labels: Tensor | None = None, *, features: Features | None = None,
           candidates: int = 512, starts: int, steps: int, rate: float = 0.05, seed: int = 0,
           step_done: Callable[[int], None] = lambda step: None) -> Inversion:
    """Codes of targets (n, c, *space) in [-1, 1], of classes (n,); the same numbers give the same codes."""
    begin, nearest = starting_codes(space, targets, labels, candidates, starts, seed)
    n = len(targets)
    wide = targets.repeat_interleave(starts, 0)
    classes = None if labels is None else labels.repeat_interleave(starts, 0)
    wanted = [one.detach() for one in features(wide, classes)] if features else []
    sample = space.drawn(range(256), seed, space.classes_of(256))
    mean, deviation = sample.mean(0), sample.std(0).clamp_min(1e-6)
    codes = begin.flatten(0, 1).clone().requires_grad_()
    optimiser = torch.optim.Adam([codes], lr=rate * float(deviation.mean()))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        placed = space.place(codes)
        images = space.images(placed, classes)
        loss = _loss(images, wide, classes, features, wanted)
        if space.radius is None:
            loss = loss + PRIOR_WEIGHT * ((placed - mean) / deviation).square().mean(1)
        optimiser.zero_grad(set_to_none=True)
        loss.sum().backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimiser.step()
        schedule.step()
        step_done(step + 1)
    with torch.no_grad():
        final = space.place(codes)
        images = space.images(final, classes)
        losses = _loss(images, wide, classes, features, wanted).view(n, starts)
    best = losses.argmin(1) + torch.arange(n, device=losses.device) * starts
    return Inversion(codes=final[best].detach(), images=images[best], nearest=nearest, loss=losses.min(1).values,
                     spread=losses.max(1).values - losses.min(1).values)


def _loss(images: Tensor, targets: Tensor, labels: Tensor | None, features: Features | None, wanted: list[Tensor],
          ) -> Tensor:
    """(n,) mean squared error at full, half and quarter size, and the relative error of the features."""
    loss = (images - targets).square().flatten(1).mean(1)
    for size in (2, 4):
        if min(images.shape[2:]) >= size:
            loss = loss + (averaged(images, size) - averaged(targets, size)).square().flatten(1).mean(1)
    if features:
        for ours, theirs in zip(features(images, labels), wanted, strict=True):
            error = (ours - theirs).square().flatten(1).mean(1) / theirs.square().flatten(1).mean(1).clamp_min(1e-8)
            loss = loss + FEATURE_WEIGHT * error / len(wanted)
    return loss


def _small(images: Tensor) -> Tensor:
    step = max(1, min(images.shape[2:]) // 16)
    return averaged(images, step)

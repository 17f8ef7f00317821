"""Diffeomorphic warps: scaling and squaring of a stationary velocity field (Arsigny et al. 2006; Dalca et al. 2018).

A displacement u (n, d, *space) is in pixels along the axes of space, in their order; the warped image is I(p + u(p)).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from radsynth.batch import Batch
from radsynth.models._averages import averaged
from radsynth.models._blocks import MODE

SQUARINGS = 6
"""Scaling and squaring begins with 1 / 2^6 of the velocity: a tenth of a pixel for velocities of 6 pixels."""


class Still(NamedTuple):
    """The pixels of a space where nothing moves, as grid_sample counts places in an image."""

    places: Tensor
    """(*space, d): where each of them lies, from -1 to 1."""
    pixel: Tensor
    """(d,): from a pixel of the image to the next."""


def still(space: tuple[int, ...], image: tuple[int, ...], device: torch.device | None = None) -> Still:
    """The pixels of a space at their own places in an image of another size, or of the same."""
    pixel = torch.tensor([2 / max(side - 1, 1) for side in image], device=device)
    return Still(grid(space, device) * pixel - 1, pixel)


def warp(images: Tensor, displacement: Tensor, *, mode: Literal["linear", "nearest"] = "linear",
         at: Still | None = None) -> Tensor:
    """Images (n, c, *space) at the displaced positions (n, d, *space): (n, c, *space), the border's value outside.

    at: `still` of the displacement's space in the images', where it is at hand
    """
    if at is None:
        at = still(displacement.shape[2:], images.shape[2:], displacement.device)
    places = torch.addcmul(at.places, displacement.movedim(1, -1), at.pixel)
    name = "bilinear" if mode == "linear" else "nearest"  # grid_sample's name in 3-D too
    # grid_sample takes (x, y[, z]), the last axis first: of images whose first axis is their last, that is our order.
    found: Tensor = functional.grid_sample(images.transpose(2, -1), places, mode=name, padding_mode="border",
                                           align_corners=True)
    return found


def grid(space: tuple[int, ...], device: torch.device | None = None) -> Tensor:
    """Positions (*space, d) of the pixels, in pixels."""
    axes = [torch.arange(side, dtype=torch.float32, device=device) for side in space]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


# exp(v): u <- v / 2^k, then k times u(p) <- u(p) + u(p + u(p)); exp(-v) is its inverse
def integrate(velocity: Tensor, squarings: int = SQUARINGS, at: Still | None = None) -> Tensor:
    """The displacement (n, d, *space) after unit time along a stationary velocity (n, d, *space) in pixels."""
    displacement: Tensor = velocity / 2**squarings
    if at is None:
        at = still(velocity.shape[2:], velocity.shape[2:], velocity.device)
    for _ in range(squarings):
        displacement = compose(displacement, displacement, at)
    return displacement


def compose(first: Tensor, second: Tensor, at: Still | None = None) -> Tensor:
    """The displacement of p -> q(p) -> q + s(q): go along `first`, and from there along `second`."""
    return first + warp(second, first, at=at)


def smooth(field: Tensor, sigma: float) -> Tensor:
    """A field (n, c, *space) under a Gaussian with a standard deviation of `sigma` pixels, the border repeated."""
    if sigma <= 0:
        return field
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=field.dtype, device=field.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(2, field.ndim):
        ones = torch.eye(field.shape[axis], dtype=field.dtype, device=field.device)[:, None]
        with torch.autocast(field.device.type, enabled=False):  # positions need more than the 8 bits of bf16
            spread = functional.conv1d(functional.pad(ones, (reach, reach), mode="replicate"), kernel[None, None])
            # As a product: convolutions of one channel take many times as long on a processor.
            field = (field.movedim(axis, -1) @ spread[:, 0]).movedim(-1, axis)
    return field


def shrink(field: Tensor, factor: int) -> Tensor:
    """A field (n, d, *space) averaged over boxes of `factor` pixels along each axis, the border repeated."""
    if factor == 1:
        return field
    missing = [-side % factor for side in field.shape[2:]]
    ends = [amount for lack in reversed(missing) for amount in (0, lack)]
    return averaged(functional.pad(field, ends, mode="replicate") if any(missing) else field, factor)


def enlarge(field: Tensor, factor: int, space: tuple[int, ...]) -> Tensor:
    """The inverse of `shrink`, linear between the boxes' middles: (n, d, *space)."""
    if factor == 1:
        return field
    fine = functional.interpolate(field, scale_factor=float(factor), mode=MODE[field.ndim - 2])
    for axis, side in enumerate(space, start=2):
        if fine.shape[axis] > side:
            fine = fine.narrow(axis, 0, side)
    return fine


def random_velocity(batch: Batch, stream: str, space: tuple[int, ...], size: float, wave: float,
                    spacing: tuple[float, ...] | None = None) -> Tensor:
    """A smooth random velocity (n, d, *space) for each item, from (seed, item, stream) alone.

    size: its standard deviation in pixels; wave: pixels over which it changes; spacing: mm of a pixel along each axis:
    where these differ, `size` is of the narrowest, and as many mm along all
    """
    knots = [math.ceil(side / wave) + 1 for side in space]
    field = functional.interpolate(batch.normal(stream, len(space), *knots), size=space, mode=MODE[len(space)],
                                   align_corners=True)
    field = smooth(field, wave / 3)
    spread = field.square().mean(dim=tuple(range(1, field.ndim)), keepdim=True).sqrt()
    field = field * (size / spread)
    if spacing is None or len(set(spacing)) == 1:
        return field
    shares = torch.tensor([min(spacing) / step for step in spacing], dtype=field.dtype, device=field.device)
    return field * shares.reshape(-1, *[1] * len(space))

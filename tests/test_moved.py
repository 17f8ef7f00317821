"""Random warps of pairs: against closed forms, image and mask alike, from (seed, item) alone, invertible."""

from __future__ import annotations

import pytest
import torch

from radsynth.arrays import NO_MASK
from radsynth.batch import Batch
from radsynth.tasks._moved import displacement, moved
from radsynth.tasks._warp import grid

SPACES = [(40, 32), (12, 24, 20)]
SIZE = 0.04


def batch_of(space: tuple[int, ...], items: tuple[int, ...] = (3, 8, 9)) -> Batch:
    """Channels are the pixels' places along the axes, as shares; masks the places along the first one."""
    places = grid(space)
    images = (places / 64).movedim(-1, 0).expand(len(items), -1, *space).contiguous()
    masks = places[..., 0].long().expand(len(items), *space).contiguous()
    return Batch(images=images, masks=masks, seed=5, items=items)


@pytest.mark.parametrize("space", SPACES)
def test_image_and_mask_are_those_at_the_displaced_places(space: tuple[int, ...]) -> None:
    """Places are linear in space, so that interpolation is exact: the moved image is p + u(p), within the borders."""
    batch = batch_of(space)
    warped, there = moved(batch, SIZE), displacement(batch, SIZE)
    found = grid(space).movedim(-1, 0) + there
    last = torch.tensor([side - 1.0 for side in space]).reshape(-1, *[1] * len(space))
    found = found.clamp_min(0).minimum(last)
    assert torch.allclose(warped.images * 64, found, atol=1e-3)
    assert warped.masks is not None and warped.masks.dtype == torch.long
    near = (warped.masks - found[:, 0]).abs()
    assert float(near.max()) <= 0.5 + 1e-3, "the nearest pixel's label"
    spread = float(there.std()) / max(space)
    assert SIZE / 2 < spread < 2 * SIZE, "as far as was asked for"


@pytest.mark.parametrize("space", SPACES)
def test_warps_are_invertible_and_depend_on_the_item_alone(space: tuple[int, ...]) -> None:
    batch = batch_of(space, items=tuple(range(12)))
    there = displacement(batch, 0.03)
    slopes = [torch.stack(list(torch.gradient(there[:, axis], dim=list(range(1, there.ndim - 1)))), dim=-1)
              for axis in range(len(space))]
    determinants = torch.linalg.det(torch.stack(slopes, dim=-2) + torch.eye(len(space)))
    assert float(determinants.min()) > 0.1
    alone = displacement(batch_of(space, items=(7,)), 0.03)
    assert torch.allclose(alone[0], there[7], atol=1e-4) and not torch.allclose(there[6], there[7], atol=0.1)


def test_blank_channels_and_missing_masks_stay_blank_and_missing() -> None:
    batch = batch_of((24, 24))
    batch.images[2, 1] = -1
    assert batch.masks is not None
    batch.masks[2] = NO_MASK
    warped = moved(batch, SIZE)
    assert torch.equal(warped.images[2, 1], batch.images[2, 1]), "a blank channel stays blank to the last bit"
    assert warped.masks is not None and torch.equal(warped.masks[2], batch.masks[2])
    assert moved(batch, 0.0) is batch and moved(batch, SIZE, 0.0) is batch


def test_the_share_is_kept_and_the_others_stay_as_they_are() -> None:
    batch = batch_of((24, 24), items=tuple(range(200)))
    every, some = moved(batch, SIZE), moved(batch, SIZE, 0.3)
    assert batch.masks is not None and some.masks is not None
    same = (some.images == batch.images).flatten(1).all(1)
    assert 0.6 < float(same.float().mean()) < 0.8
    assert torch.equal(some.masks[same], batch.masks[same])
    assert torch.allclose(some.images[~same], every.images[~same], atol=1e-4), "whatever else is warped"

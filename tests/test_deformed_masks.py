"""New masks by deforming given ones: their parts stay, each depends on its item alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from radsynth.batch import Batch
from radsynth.tasks._masks import deformed, masks_of, shares_of

VALUES = (0, 2, 7)


@pytest.mark.parametrize("space", [(32, 32), (12, 24, 20)])
def test_deformed_masks_keep_their_parts_and_depend_on_the_item_alone(space: tuple[int, ...]) -> None:
    places = np.stack(np.meshgrid(*[np.arange(side) for side in space], indexing="ij"))
    far = sum((axis - side / 2) ** 2 for axis, side in zip(places, space, strict=True)) ** 0.5
    ring = np.where(far < 3, 7, np.where(far < 5, 2, 0))
    masks = torch.from_numpy(np.stack([ring] * 4))
    batch = Batch(images=torch.empty(4, 0), seed=3, items=(0, 1, 2, 3))
    new = deformed(masks, batch, VALUES, 0.03)
    assert set(new.unique().tolist()) == set(VALUES) and all((one != masks[0]).any() for one in new)
    for one in new.numpy():  # the core still lies within the shell, and both are of one piece
        assert ndimage.label(one == 7)[1] == 1 and ndimage.label(one > 0)[1] == 1
        assert not (ndimage.binary_dilation(one == 7) & (one == 0)).any()
    alone = deformed(masks[2:3], Batch(images=torch.empty(1, 0), seed=3, items=(2,)), VALUES, 0.03)
    assert torch.equal(alone[0], new[2])
    assert torch.equal(deformed(masks, batch, VALUES, 0.0), masks)
    assert torch.equal(masks_of(shares_of(masks, VALUES), VALUES), masks)

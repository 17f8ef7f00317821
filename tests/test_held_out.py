"""No image outside of the training split is ever in a batch of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from radsynth.arrays import Prepared
from radsynth.verbs._training.batches import Batches


def test_batches_are_of_training_images_alone(make_prepared: Callable[..., Path]) -> None:
    prepared = Prepared(make_prepared(60))
    batches = Batches(prepared, torch.device("cpu"), 0.0, 0, hidden=False)
    seen = batches.next(range(400)).images
    apart = torch.cdist(seen.flatten(1), torch.from_numpy(prepared.images(prepared.indices("test"))).flatten(1))
    assert apart.min() > 0
    assert set(batches.train) == set(prepared.indices("train"))

"""The settings of a training: how long, in which steps, what is kept, what is watched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from radsynth.settings import settings

LARGEST_BATCH = 65536
"""Images; more are a budget in the wrong place, and would take all memory before a step is taken."""


@settings
class Settings:
    """The training loop: how long, in which steps, and what is kept."""

    images: NonNegativeInt = 0
    """Budget in real images, a batch a step; further turns of a discriminator (task.discriminator_steps) do not count.
    0: none. Bit-exact resume needs this kind of budget."""
    seconds: float = Field(0, ge=0)
    """Budget in seconds of training; 0: none. With both, the first that is reached counts."""
    batch: int = Field(32, gt=0, le=LARGEST_BATCH)
    """Images a turn, over all processes."""
    batch_end: int = Field(0, ge=0, le=LARGEST_BATCH)
    """Images a turn once batches have grown, if more than `batch`: faster, gradients of less noise; 0: never more."""
    augment_end: float = Field(0.0, ge=0, le=1)
    """Least strength of augmentation once batches have grown: they lose variety with less. 0: as before.
    Not once the training doctor has ended augmentation."""
    grow_at: float = Field(0.25, ge=0, le=1)
    """Share of the budget after which batches grow."""
    grow_images: NonNegativeInt = 0
    """Images before which they do not: at first, steps count for more than images."""
    accumulate: PositiveInt = 1
    """Parts that a batch is computed in, to save memory; doubled by itself when memory runs out."""
    processes: NonNegativeInt = 0
    """Processes on this machine that share a batch; 0: one on a CPU and where steps are recorded (`graphs`), else one a
    GPU, of as many as divide the batch."""
    balance: float = Field(0.0, ge=0, le=1)
    """How far classes are evened out when images are shown: 0 as often as they occur, 1 all equally often."""
    rate: PositiveFloat = 1e-3
    """Learning rate of Adam at its highest."""
    rate_end: float = Field(0.05, ge=0, le=1)
    """Share of the learning rate that is left at the end."""
    fall: float = Field(0.3, ge=0, le=1)
    """Share of the budget, at its end, in which the learning rate falls."""
    warmup: float = Field(0.01, ge=0, lt=1)
    """Share of the budget in which the learning rate rises to its highest."""
    beta1: float = Field(0.0, ge=0, lt=1)
    """Adam's first decay."""
    beta2: float = Field(0.99, ge=0, lt=1)
    """Adam's second decay."""
    clip: float = Field(0.0, ge=0)
    """Norm that the gradient of a network has at most; a longer one is shortened to it. 0: as long as it is."""
    average: float = Field(0.1, gt=0.01, lt=0.25)
    """Width of the averaging of the generator's weights, as a share of the training so far."""
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    """Numeric format; auto takes bf16 where the machine multiplies it itself."""
    graphs: bool = True
    """On a GPU, launch whole steps as CUDA graphs where the task allows it: several times faster for small images."""
    start: str = ""
    """Start from the weights of this trained run (its folder) or base generator (its name); empty: from chance."""
    freeze: NonNegativeInt = 0
    """Lower layers of the discriminator that stay as train.start has them."""
    checkpoint_minutes: PositiveFloat = 2.0
    """Minutes between checkpoints."""
    previews: NonNegativeInt = 8
    """Preview grids over the training."""
    select: bool = True
    """Deliver the last moment whose samples are as close to validation images as any, and end a training on few images
    that only gets worse. Needs 16 validation images (about 107 in all, as they are split), and 10,240 images shown;
    with less the last moment is delivered."""
    doctor: bool = True
    """Watch for illnesses of training (values that run away, overfitting, collapse) and treat them."""

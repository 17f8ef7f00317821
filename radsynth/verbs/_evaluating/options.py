"""The settings of `evaluate`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from radsynth.settings import settings

MOST_IMAGES = 5000
"""Images compared on each side, whatever is asked for."""


@settings
class Settings:
    """What is measured on synthetic images."""

    images: int = Field(default=2000, ge=50, le=MOST_IMAGES)
    """Images compared on each side at most; fewer are taken when there are fewer held-out real or synthetic images."""
    training_images: int = Field(default=10000, ge=50)
    """Training images searched for copies at most, drawn at random."""
    repetitions: int = Field(default=30, ge=10, le=1000)
    """Half-samples behind each interval."""
    pairs: int = Field(default=12, ge=0, le=200)
    """Closest pairs of a synthetic and a training image to keep as pictures."""
    real_pictures: bool = True
    """Keep pictures of real images for the report, and in RUN/features what saves time when they are measured again.
    Turn it off for a report that may leave the building."""
    shrink: bool = False
    """Bring real images that nobody prepared down to the size of the synthetic ones; finer details are not compared."""
    classes: bool = True
    """Measure every class by itself too, where images have classes and there are enough of each; of more than 20
    classes those with the most held-out images."""
    inception: Path | None = None
    """File of the original Inception weights (pt_inception-2015-12-05-6726825d.pth), for FID; 2-D images only."""
    anatomy: float = Field(default=0.2, ge=0, le=1)
    """For tasks from image to image: share of the training's budget, on top of it, in which segmenters are learned that
    look for the same anatomy in what is given and in what is made; 0: none. Without masks they learn classes of
    intensity, where images are pairs."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draws of images and half-samples."""

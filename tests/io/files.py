"""Reading one file, and files that are refused by both ways in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radsynth import io
from radsynth.errors import RejectedFile
from radsynth.image import Image

PROVENANCE = io.Provenance(model="mlp", weights="", seed=0, index=0)
RAMP = np.arange(20 * 24).reshape(20, 24)


def one(path: Path) -> Image:
    image = io.read(path)
    assert isinstance(image, Image)
    return image


def refused(path: Path, reason: str) -> None:
    """Both ways in refuse it, or the header is honest and the pixels are not."""
    with pytest.raises(RejectedFile, match=reason):
        io.header(path)
        io.read(path)

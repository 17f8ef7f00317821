"""Images from outside of a prepared folder, on the scale of a run's images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth.arrays import IntensityMap
from radsynth.errors import FolderError
from radsynth.image import Image, ImageSpec
from radsynth.io import Provenance, write
from radsynth.verbs._other_images import other_images
from radsynth.verbs.evaluate import evaluate


@pytest.mark.parametrize("where", [".", "images"])
def test_channels_that_radsynth_wrote_keep_their_values(where: str, tmp_path: Path) -> None:
    """Each in its own range, on the one scale of the run: MR of two contrasts. The folder of images alone will do."""
    rng, intensity = np.random.default_rng(0), IntensityMap(method="percentiles", low=0, high=1000, levels=65535)
    spec = ImageSpec(size=(16, 16), channels=("t1", "flair"), modality="MR", bits=16, format="nifti")
    (tmp_path / where).mkdir(exist_ok=True)
    given = np.stack([rng.integers(0, 1000, (4, 16, 16)), rng.integers(0, 200, (4, 16, 16))], axis=1).astype(np.uint16)
    for number, pixels in enumerate(given):
        image = Image(pixels=pixels, modality="MR", bits=16, channels=spec.channels)
        origin = Provenance(model="m", weights="", seed=0, index=number)
        write(image, tmp_path / where / f"{number}.nii.gz", provenance=origin)
    (tmp_path / "samples.csv").write_text("file,index,seed,label\n")
    with other_images(tmp_path / where, spec, intensity, {}) as (_, found):
        np.testing.assert_allclose(found, given / 500 - 1, atol=1e-3)


def test_deep_images_are_on_the_runs_scale_however_dark_they_are(tmp_path: Path) -> None:
    """A radiograph of 12 bits that reaches half of them is no brighter for that."""
    intensity = IntensityMap(method="bits", low=0, high=4095, levels=4095)
    given = np.random.default_rng(0).integers(0, 1900, (3, 16, 16)).astype(np.uint16)
    for number, pixels in enumerate(given):
        Pillow.fromarray(pixels).save(tmp_path / f"{number}.png")
    with other_images(tmp_path, ImageSpec(size=(16, 16), bits=16), intensity, {}) as (_, found):
        np.testing.assert_allclose(found[:, 0], given / 4095 * 2 - 1, atol=1e-6)


def test_a_prepared_folder_is_told_from_synthetic_images(make_prepared: Callable[..., Path]) -> None:
    """Its arrays were taken for images of a strange shape."""
    with pytest.raises(FolderError, match=r"is a prepared folder, of real images\. Give the synthetic ones"):
        evaluate(make_prepared(), make_prepared(name="other"))

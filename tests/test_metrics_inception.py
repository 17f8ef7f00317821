from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from radsynth.errors import FolderError
from radsynth.metrics import _inception
from radsynth.metrics._frechet import frechet_distance
from radsynth.metrics._inception import Inception, InceptionFeatures, resize
from radsynth.verbs.evaluate import Settings
from tests.compared import compare


def pictures(n: int, seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (n, *shape)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the official names, as the original file holds them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(Inception().state_dict(), path)
    return path


def test_the_network_has_the_published_number_of_weights() -> None:
    network = Inception()
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert sum(value.numel() for value in state.values()) == 23_885_392
    # 23,834,568 parameters of Inception-v3 without the auxiliary head, and 8 more classes of 2048 weights and a bias.
    assert sum(p.numel() for p in network.parameters()) == 23_834_568 + 8 * 2049


def test_maps_have_the_sizes_of_the_paper() -> None:
    sizes: dict[str, tuple[int, ...]] = {}
    network = Inception().eval()
    for name in ("Conv2d_1a_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7a", "Mixed_7c"):
        def note(_: nn.Module, __: tuple[Tensor], out: Tensor, name: str = name) -> None:
            sizes[name] = tuple(out.shape[1:])

        network.get_submodule(name).register_forward_hook(note)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)
    assert sizes == {"Conv2d_1a_3x3": (32, 149, 149), "Conv2d_4a_3x3": (192, 71, 71), "Mixed_5d": (288, 35, 35),
                     "Mixed_6a": (768, 17, 17), "Mixed_6e": (768, 17, 17), "Mixed_7a": (1280, 8, 8),
                     "Mixed_7c": (2048, 8, 8)}


def test_resize_is_that_of_tensorflow_1() -> None:
    """Output pixel i looks at i * (input / output): 3 pixels to 6 give them and the middles, the last one twice."""
    row = torch.tensor([0.0, 10.0, 30.0])[None, None, None]
    assert resize(row, 1, 6).flatten().tolist() == [0, 5, 10, 20, 30, 30]
    column = row.transpose(2, 3)
    assert resize(column, 6, 1).flatten().tolist() == [0, 5, 10, 20, 30, 30]
    picture = torch.rand(1, 3, 20, 31)
    torch.testing.assert_close(resize(picture, 20, 31), picture)


def test_pooling_leaves_out_the_padding() -> None:
    assert (_inception._average(torch.ones(1, 1, 3, 3)) == 1).all()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_are_read_by_their_official_names(weights: Path, tmp_path: Path, suffix: str) -> None:
    path = weights
    if suffix == ".safetensors":
        path = tmp_path / "inception.safetensors"
        save_file(torch.load(weights, weights_only=True), path)
    found = InceptionFeatures(path)
    made = found.features(pictures(2, 0, 1, 40, 50))
    assert made.shape == (2, 2048) and np.isfinite(made).all() and not found.original
    assert found.sha256[:12] in found.name and "not known as the original" in found.name
    shares = found.probabilities(made)
    assert shares.shape == (2, 1008) and shares.sum(1) == pytest.approx(1, abs=1e-4)


def test_files_that_are_not_these_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    del state["Mixed_7c.branch1x1.conv.weight"]
    torch.save(state, tmp_path / "short.pth")
    torch.save(Path("evil"), tmp_path / "object.pth")
    (tmp_path / "noise.pth").write_bytes(b"\x80\x02nonsense")
    (tmp_path / "noise.safetensors").write_bytes(b"\x80\x02nonsense")
    for name, words in (("short.pth", r"first Mixed_7c\.branch1x1\.conv\.weight"), ("object.pth", "nothing in it was"),
                        ("noise.pth", "nothing in it was"), ("noise.safetensors", "no readable"),
                        ("none.pth", "cannot be read")):
        with pytest.raises(FolderError, match=words):
            InceptionFeatures(tmp_path / name)


def test_only_the_original_weights_make_a_fid(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = lambda self, pixels: pixels.reshape(len(pixels), -1)[:, :2048]  # noqa: E731  # the network takes seconds
    monkeypatch.setattr(InceptionFeatures, "features", small)
    sides = [pictures(60, seed, 1, 48, 48) for seed in range(3)]
    options = Settings(repetitions=10, pairs=0, inception=weights)
    found = {one["name"]: one for one in compare(*sides, settings=options)["measurements"]}
    assert "fid" not in found and found["inception_distance"]["title"] != "FID"
    assert "1008 classes" in found["inception_score"]["features"]
    monkeypatch.setattr(_inception, "ORIGINAL", InceptionFeatures(weights).sha256[:8])
    found = {one["name"]: one for one in compare(*sides, settings=options)["measurements"]}
    assert "inception_distance" not in found and found["fid"]["title"] == "FID"
    assert InceptionFeatures(weights).sha256[:12] in found["fid"]["features"]
    expected = frechet_distance(small(None, sides[0]), small(None, sides[2]))
    assert found["fid"]["value"] == pytest.approx(expected, rel=1e-6)
    assert "fid" not in {one["name"] for one in compare(
        *sides, settings=Settings(repetitions=10, pairs=0))["measurements"]}


def test_arithmetic_is_that_of_torchmetrics_on_the_same_features() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(nn.Module):
        num_features = 500

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :500].float()

    metric = FrechetInceptionDistance(feature=Given(), normalize=False)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(low, high, (300, 3, 27, 27), dtype=torch.uint8, generator=generator)
            for low, high in ((0, 200), (30, 255)))
    metric.update(a, real=True)
    metric.update(b, real=False)
    ours = frechet_distance(Given()(a).numpy(), Given()(b).numpy())
    assert ours == pytest.approx(float(metric.compute()), rel=1e-3)


def reference() -> Any:
    """torch-fidelity's module with its network, without the package's own imports, which want torchvision."""
    found = find_spec("torch_fidelity")
    if found is None or found.origin is None:
        pytest.skip("torch-fidelity is not installed: pip install --no-deps torch-fidelity")
    package = ModuleType("torch_fidelity")
    package.__path__ = [str(Path(found.origin).parent)]
    sys.modules.setdefault("torch_fidelity", package)
    return import_module("torch_fidelity.feature_extractor_inceptionv3")


def lively(path: Path) -> Path:
    """Random weights whose normalisation is not the identity, so that every part of the network shows."""
    torch.manual_seed(0)
    network = Inception()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.05)
            layer.running_var.uniform_(0.05, 0.2)
            nn.init.normal_(layer.bias, 0, 0.1)
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("original", [False, True])
def test_the_number_equals_the_reference_implementation(original: bool, tmp_path: Path) -> None:
    """Network, resize and protocol against torch-fidelity's: on random weights, and on the original ones where
    RADSYNTH_INCEPTION_WEIGHTS names their file (they cannot be downloaded here)."""
    if original and "RADSYNTH_INCEPTION_WEIGHTS" not in os.environ:
        pytest.skip("RADSYNTH_INCEPTION_WEIGHTS is not set")
    path = Path(os.environ["RADSYNTH_INCEPTION_WEIGHTS"]) if original else lively(tmp_path / "weights.pth")
    network = reference().FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
    network.eval()  # the package does so before it uses it
    features = InceptionFeatures(path)
    assert features.original == original
    a, b = pictures(24, 1, 3, 64, 48), np.clip(pictures(24, 2, 3, 64, 48) * 0.7 + 0.1, -1, 1)
    ours, theirs = [], []
    for side in (a, b):
        stored = np.rint((side + 1) * 127.5).astype(np.uint8)
        ours.append(features.features(side))
        theirs.append(network(torch.from_numpy(stored))[0].numpy())
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-3)
    assert frechet_distance(*ours) == pytest.approx(frechet_distance(*theirs), rel=5e-3)

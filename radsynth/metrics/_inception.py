"""The network of the original FID: Inception-v3 (Szegedy et al. 2016) as in TensorFlow's frozen graph of 2015-12-05,
for the weights that were ported to PyTorch ("pt_inception-2015-12-05"). Written from the paper and from what is public
about the graph: pooling leaves out the padding, the last block pools by the maximum, 1008 classes, no auxiliary head.

Images as the graph takes them: 8-bit RGB, stretched to 299 x 299 by TensorFlow 1's bilinear rule (pixel corners
aligned at the first pixel only, no antialiasing), less 128, over 128. Features: 2048 averages of the last map.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from radsynth.errors import FolderError
from radsynth.metrics._features import three_channels

ORIGINAL = "6726825d"
"""How the SHA-256 of the original file of weights begins; its name ends with it."""
SIDE = 299
CLASSES = 1008


class _Convolution(nn.Module):
    """Convolution without bias, normalisation, ReLU."""

    def __init__(self, given: int, made: int, kernel: int | tuple[int, int], stride: int = 1,
                 padding: int | tuple[int, int] = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(made, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _BlockA(nn.Module):
    """35 x 35: 1x1, 5x5, two 3x3, pooling."""

    def __init__(self, given: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(given, 64, 1)
        self.branch5x5_1 = _Convolution(given, 48, 1)
        self.branch5x5_2 = _Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Convolution(given, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, padding=1)
        self.branch_pool = _Convolution(given, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([
            self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))), self.branch_pool(_average(x)),
        ], dim=1)


class _BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.branch3x3 = _Convolution(given, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Convolution(given, 64, 1)
        self.branch3x3dbl_2 = _Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, stride=2)], dim=1)


class _BlockC(nn.Module):
    """17 x 17: 7x7 convolutions as rows and columns."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch1x1 = _Convolution(768, 192, 1)
        self.branch7x7_1 = _Convolution(768, inner, 1)
        self.branch7x7_2 = _Convolution(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7_3 = _Convolution(inner, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = _Convolution(768, inner, 1)
        self.branch7x7dbl_2 = _Convolution(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = _Convolution(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = _Convolution(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = _Convolution(inner, 192, (1, 7), padding=(0, 3))
        self.branch_pool = _Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_average(x))], dim=1)


class _BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = _Convolution(768, 192, 1)
        self.branch3x3_2 = _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Convolution(768, 192, 1)
        self.branch7x7x3_2 = _Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        long = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), long, functional.max_pool2d(x, 3, stride=2)], dim=1)


class _BlockE(nn.Module):
    """8 x 8: rows and columns side by side. The last block of the graph pools by the maximum."""

    def __init__(self, given: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.branch1x1 = _Convolution(given, 320, 1)
        self.branch3x3_1 = _Convolution(given, 384, 1)
        self.branch3x3_2a = _Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = _Convolution(given, 448, 1)
        self.branch3x3dbl_2 = _Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = _Convolution(given, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once, twice = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = functional.max_pool2d(x, 3, stride=1, padding=1) if self.last else _average(x)
        return torch.cat([
            self.branch1x1(x), self.branch3x3_2a(once), self.branch3x3_2b(once), self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice), self.branch_pool(pooled),
        ], dim=1)


class Inception(nn.Module):
    """(n, 3, 299, 299), 8-bit values less 128 over 128 -> features (n, 2048); the names are those of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _BlockA(192, 32), _BlockA(256, 64), _BlockA(288, 64)
        self.Mixed_6a = _BlockB(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d = _BlockC(128), _BlockC(160), _BlockC(160)
        self.Mixed_6e = _BlockC(192)
        self.Mixed_7a = _BlockD()
        self.Mixed_7b, self.Mixed_7c = _BlockE(1280, last=False), _BlockE(2048, last=True)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(functional.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


class InceptionFeatures:
    """Features and class probabilities by given weights. FolderError when the file is not this network's."""

    def __init__(self, path: Path) -> None:
        self.sha256, self.network = _load(Path(path))
        self.original = self.sha256.startswith(ORIGINAL)
        kind = "original weights" if self.original else "weights not known as the original"
        self.name = f"Inception-v3 of FID, {SIDE} px, {kind}, sha256 {self.sha256[:12]}"

    @torch.inference_mode()
    def features(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, c, h, w) in [-1, 1] -> (n, 2048)."""
        images = three_channels(torch.from_numpy(np.ascontiguousarray(pixels)))
        stored = torch.round((images.clamp(-1, 1) + 1) * 127.5)
        found: Tensor = self.network((resize(stored, SIDE, SIDE) - 128) / 128)
        return np.asarray(found.numpy(), dtype=np.float32)

    @torch.inference_mode()
    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 2048) -> (n, 1008), as the Inception Score takes them: without the last layer's bias."""
        logits = torch.from_numpy(features) @ self.network.fc.weight.T
        return np.asarray(logits.softmax(1).numpy(), dtype=np.float32)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """TensorFlow 1's bilinear resize without aligned corners: output pixel i looks at i * (input / output)."""
    for axis, side in ((2, height), (3, width)):
        given = images.shape[axis]
        place = torch.arange(side, dtype=torch.float32) * (given / side)
        low = place.floor().long()
        share = (place - low).reshape(-1, *[1] * (3 - axis))
        high = (low + 1).clamp(max=given - 1)
        first, second = images.index_select(axis, low), images.index_select(axis, high)
        images = first + (second - first) * share
    return images


@functools.lru_cache(maxsize=1)
def _load(path: Path) -> tuple[str, Inception]:
    """The SHA-256 of the file, and the network with its weights; no pickled object is ever made."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FolderError(f"The Inception weights {path} cannot be read: {error.strerror}.") from None
    network = Inception()
    state = {name: value for name, value in _state(path).items() if not name.endswith("num_batches_tracked")}
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    wrong = sorted(wanted.keys() ^ state.keys()) or sorted(
        name for name, value in wanted.items() if value.shape != state[name].shape)
    if wrong:
        raise FolderError(
            f"{path} does not hold the weights of FID's Inception network (pt_inception-2015-12-05): {len(wrong)} of "
            f"{len(wanted)} names or shapes differ, first {wrong[0]}."
        )
    network.load_state_dict(state, strict=False)
    return digest, network.eval().requires_grad_(False)


def _state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise FolderError(f"{path} is no readable file of weights: {error}.") from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no type for a file that is damaged or would run code
        raise FolderError(
            f"{path} is no readable file of weights, or holds more than weights ({type(error).__name__}); nothing in "
            "it was executed. Give pt_inception-2015-12-05-6726825d.pth or the same weights as .safetensors."
        ) from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise FolderError(f"{path} holds something else than named weights.")
    return found

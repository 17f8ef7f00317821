"""Discriminator of patches (PatchGAN, Isola et al. 2017): a logit for each patch, any size, 2-D and 3-D."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radsynth.models._blocks import CONVOLUTION
from radsynth.models._products import Halving


class PatchDiscriminator(nn.Module):
    """Images (n, channels, *space) to logits (n, 1, *grid) in fp32.

    Without normalisation, so that patches do not see each other, or with that of each channel over the whole image.
    The first layer works on 4x4 patches with a stride of 2, as the paper's; each further one of `halvings` halves the
    grid again, as long as `size` has pixels to halve, and doubles the channels.
    """

    def __init__(self, channels: int, width: int, halvings: int, size: tuple[int, ...],
                 normalised: bool = False) -> None:
        super().__init__()
        convolution = CONVOLUTION[len(size)]
        layers: list[nn.Module] = []
        grid = list(size)
        for level in range(halvings):
            # Thin axes (few slices) are not halved away.
            strides = tuple(2 if side >= 8 else 1 for side in grid)
            kernel = tuple(4 if stride == 2 else 3 for stride in strides)
            grid = [-(-side // stride) for side, stride in zip(grid, strides, strict=True)]
            inputs = channels if level == 0 else width * 2 ** (level - 1)
            layer = (Halving(inputs, width * 2**level) if kernel == (4, 4)
                     else convolution(inputs, width * 2**level, kernel, strides, 1))
            layers += [layer, *([InstanceNorm()] if normalised and level else []), nn.LeakyReLU(0.2)]
        widest = width * 2 ** (halvings - 1)
        layers += [convolution(widest, widest, 3, 1, 1), *([InstanceNorm()] if normalised else []), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.head = convolution(widest, 1, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.looks(images)[-1]

    def looks(self, images: Tensor) -> list[Tensor]:
        """What every layer finds, the finest first; the logits are the last."""
        found, features = [], images
        for layer in self.layers:
            features = layer(features)
            if isinstance(layer, nn.LeakyReLU):
                found.append(features)
        # In fp32: differences of logits are taken, and bf16 keeps 8 bits of them.
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = self.head(features.float())
        return [*found, logits]


class InstanceNorm(nn.Module):
    """Normalisation of each channel over the image, in fp32: (n, c, *space), grids of one pixel too.

    In channels-last bf16 on a CPU it takes a tenth of the time of torch's own, which there is slower than in fp32.
    """

    def forward(self, features: Tensor) -> Tensor:
        pixels = features.movedim(1, -1)
        flat = pixels.flatten(1, -2).float()
        centred = flat - flat.mean(1, keepdim=True)
        normal = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + 1e-5)
        return normal.to(features.dtype).view(pixels.shape).movedim(-1, 1)

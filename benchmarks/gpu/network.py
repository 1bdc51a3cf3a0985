"""IS-Net in torch, with random weights: what a GPU needs to do for an image does not depend on their values.

After "Highly Accurate Dichotomous Image Segmentation" (Qin et al., ECCV 2022): a U of U-shaped blocks, whose numbers of
channels are those of its table. `GMAC` is what the published ONNX network takes, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

GMAC = 159.6
"""Multiplications and additions of one image of 1024 x 1024, in 10^9."""

# Levels (None: flat, with growing dilation instead of pooling), channels in, inside and out.
ENCODER = (
    (7, 64, 32, 64),
    (6, 64, 32, 128),
    (5, 128, 64, 256),
    (4, 256, 128, 512),
    (None, 512, 256, 512),
    (None, 512, 256, 512),
)
DECODER = (
    (None, 1024, 256, 512),
    (4, 1024, 128, 256),
    (5, 512, 64, 128),
    (6, 256, 32, 64),
    (7, 128, 16, 64),
)
FLAT_DILATIONS = (1, 2, 4, 8)


def layer(channels: int, out: int, dilation: int = 1) -> nn.Sequential:
    """Give a convolution and ReLU; the normalisation between them is part of the weights after training."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True))


def larger(small: Tensor, like: Tensor) -> Tensor:
    """Bring a map to the size of another."""
    return functional.interpolate(small, size=like.shape[2:], mode="bilinear", align_corners=False)


class Block(nn.Module):
    """A small U-network with a way around it."""

    def __init__(self, levels: int | None, channels: int, inside: int, out: int) -> None:
        super().__init__()
        self.pools = levels is not None
        # The lowest level has no smaller map, but a wider view.
        dilations = FLAT_DILATIONS if levels is None else (*[1] * (levels - 1), 2)
        self.first = layer(channels, out)
        self.down = nn.ModuleList(
            layer(inside if number else out, inside, dilation) for number, dilation in enumerate(dilations)
        )
        self.up = nn.ModuleList(
            layer(2 * inside, inside if number else out, dilation) for number, dilation in enumerate(dilations[:-1])
        )

    def forward(self, picture: Tensor) -> Tensor:
        """Map [N, channels, H, W] to [N, out, H, W]."""
        around = self.first(picture)
        maps: list[Tensor] = []
        below = around
        for number, down in enumerate(self.down):
            # The lowest two share a size.
            if self.pools and 0 < number < len(self.down) - 1:
                below = functional.max_pool2d(below, 2, ceil_mode=True)
            below = down(below)
            maps.append(below)
        result = maps.pop()
        for up in reversed(self.up):
            beside = maps.pop()
            result = up(torch.cat((larger(result, beside) if self.pools else result, beside), 1))
        return result + around


class ISNet(nn.Module):
    """uint8 [N, 3, H, W] to alpha [N, 1, H, W] in 0..1, computed in the type of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        self.encoder = nn.ModuleList(Block(*numbers) for numbers in ENCODER)
        self.decoder = nn.ModuleList(Block(*numbers) for numbers in DECODER)
        self.mask = nn.Conv2d(64, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Run the network."""
        weight = self.mask.weight
        picture = (image.to(weight.dtype) / 255 - 0.5).contiguous(memory_format=torch.channels_last)
        below, maps = self.start(picture), []
        for number, block in enumerate(self.encoder):
            if number:
                below = functional.max_pool2d(below, 2, ceil_mode=True)
            below = block(below)
            maps.append(below)
        result = maps.pop()
        for block in self.decoder:
            beside = maps.pop()
            result = block(torch.cat((larger(result, beside), beside), 1))
        return torch.sigmoid(larger(self.mask(result), image).float())


def random_isnet(device: str) -> ISNet:
    """Give the network as it is fastest: half precision where the device has it, channels last."""
    torch.manual_seed(0)
    if device == "cpu":
        torch.set_num_threads(1)  # a check of the script, beside whatever else runs
    kind = torch.float16 if device == "cuda" else torch.float32
    return ISNet().eval().to(device=device, dtype=kind, memory_format=torch.channels_last)

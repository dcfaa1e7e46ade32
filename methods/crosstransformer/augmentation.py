"""The views of SimCLR episodes, batched on the device; every draw comes from one generator.

Random crop (area 0.08 to 1, aspect 3/4 to 4/3), flip, colours with probability 0.8, grey with 0.2, and for
queries a Gaussian blur. Colours are TensorFlow's, as the paper's code has them, in a random order and cut
to [0, 1] after each step: brightness *adds* U(-0.8, 0.8), contrast is about each channel's mean, and
saturation and hue are changed in HSV.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
TRIES = 10  # crops drawn for an image before the whole of it is taken
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.8, 0.8, 0.8, 0.2
JITTERED, GREYED = 0.8, 0.2
SIGMA = (0.1, 2.0)
LUMA = (0.2989, 0.5870, 0.1140)


def views(
    images: Tensor, size: tuple[int, int], generator: torch.Generator, *, blurred: bool, mirror: bool = True
) -> Tensor:
    """One view of each of (B, 3, H, W) in [0, 1], as (B, 3, *size) in [0, 1].

    blurred: as queries are and supports are not; mirror: whether a flipped image keeps its class.
    """
    out = crop(images, size, generator)
    if mirror:
        flipped = _uniform(out, 0, 1, generator) < 0.5
        out = torch.where(flipped[:, None, None, None], out.flip(-1), out)
    changed = jitter(out, generator)
    out = torch.where((_uniform(out, 0, 1, generator) < JITTERED)[:, None, None, None], changed, out)
    out = torch.where((_uniform(out, 0, 1, generator) < GREYED)[:, None, None, None], grey(out), out)
    return blur(out, _uniform(out, *SIGMA, generator)) if blurred else out


def crop(images: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A random part of each image, resized to `size`, bilinear; larger images shrink to `size` first."""
    if images.shape[-2] > size[0] or images.shape[-1] > size[1]:  # sampling alone would alias
        images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    tall, wide = images.shape[-2:]
    shape = (len(images), TRIES)
    draw = [torch.rand(shape, generator=generator, device=images.device) for _ in range(4)]
    area = (AREA[0] + (AREA[1] - AREA[0]) * draw[0]) * tall * wide
    low, high = map(math.log, ASPECT)
    aspect = (low + (high - low) * draw[1]).exp()
    across, down = (area * aspect).sqrt() / wide, (area / aspect).sqrt() / tall  # shares of the sides
    fits = (across <= 1) & (down <= 1)
    first = fits.int().argmax(1, keepdim=True)  # of those that fit
    none = ~fits.any(1, keepdim=True)
    across, down, x, y = (t.gather(1, first) for t in (across, down, draw[2], draw[3]))
    across, down = (torch.where(none, torch.ones_like(t), t) for t in (across, down))
    # grid_sample's coordinates run from -1 to 1, from edge to edge.
    theta = torch.zeros(len(images), 2, 3, dtype=images.dtype, device=images.device)
    theta[:, 0, 0], theta[:, 0, 2] = across[:, 0], ((1 - across) * (2 * x - 1))[:, 0]
    theta[:, 1, 1], theta[:, 1, 2] = down[:, 0], ((1 - down) * (2 * y - 1))[:, 0]
    grid = F.affine_grid(theta, [len(images), 3, *size], align_corners=False)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.clamp(0, 1)


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Four changes of colour, in an order drawn for each image, each cut to [0, 1]."""
    steps: tuple[tuple[Callable[[Tensor, Tensor], Tensor], Tensor], ...] = (
        (brighter, _uniform(images, -BRIGHTNESS, BRIGHTNESS, generator)),
        (contrasted, _uniform(images, 1 - CONTRAST, 1 + CONTRAST, generator)),
        (saturated, _uniform(images, 1 - SATURATION, 1 + SATURATION, generator)),
        (turned, _uniform(images, -HUE, HUE, generator)),
    )
    keys = torch.rand(len(images), len(steps), generator=generator, device=images.device)
    order = keys.argsort(1)
    out = images.clone()
    for turn in range(len(steps)):
        for number, (change, amount) in enumerate(steps):
            now = torch.nonzero(order[:, turn] == number).flatten()
            if len(now):
                out[now] = change(out[now], amount[now, None, None, None]).clamp(0, 1)
    return out


def brighter(images: Tensor, amount: Tensor) -> Tensor:
    return images + amount


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * factor + mean


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    hue, saturation, value = _hsv(images)
    return _rgb(hue, (saturation * factor).clamp(0, 1), value)


def turned(images: Tensor, turn: Tensor) -> Tensor:
    """The hue moved on by `turn`, in whole circles."""
    hue, saturation, value = _hsv(images)
    return _rgb((hue + turn) % 1, saturation, value)


def grey(images: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).expand_as(images)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian of `sigma` (B,) pixels up to (side // 10) // 2 away; mirrored at the edges."""
    count, channels, tall, wide = images.shape
    radius = (tall // 10) // 2
    if radius == 0:
        return images
    steps = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.softmax(-steps.square() / (2 * sigma[:, None].square()), dim=1)
    kernel = kernel.repeat_interleave(channels, 0)  # one for each image and channel
    flat = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=count * channels)
    return flat.view(count, channels, tall, wide).clamp(0, 1)


def _uniform(images: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(B,) draws in the images' type."""
    drawn = torch.rand(len(images), generator=generator, device=images.device, dtype=images.dtype)
    return low + (high - low) * drawn


def _hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in circles, saturation and value, each (B, 1, H, W), of images (B, 3, H, W) in [0, 1]."""
    red, green, blue = images.split(1, dim=1)
    value, chroma = images.amax(1, keepdim=True), images.amax(1, keepdim=True) - images.amin(1, keepdim=True)
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sector = torch.where(
        value == red,
        (green - blue) / safe % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = torch.where(chroma > 0, sector / 6, torch.zeros_like(chroma))
    saturation = chroma / torch.where(value > 0, value, torch.ones_like(value))
    return hue, saturation, value


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """What `_hsv` took apart: v - v s max(0, min(k, 4 - k, 1)) with k = (n + 6 h) mod 6, n = 5, 3, 1."""
    channels = []
    for number in (5, 3, 1):
        k = (number + 6 * hue) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.cat(channels, 1)

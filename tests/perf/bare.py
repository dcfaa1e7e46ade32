"""The loops to be measured against: what one writes by hand in an afternoon, with nothing around them."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.backbone import Backbone
from backbones.numerics import set_fused
from benchmarks.images import Labelled


class Bare:
    """A copy of the backbone's timm network and a linear head, the pixels as one tensor on its device.

    It computes in the backbone's precision and with its kind of attention, so that what differs is
    the path around the network.
    """

    def __init__(self, backbone: Backbone, data: Labelled, *, training: bool) -> None:
        self.numerics = backbone.numerics
        self.net = copy.deepcopy(backbone.net).requires_grad_(training)
        for site in backbone.sites():
            set_fused(self.net.get_submodule(f"{site.name}.attn"), self.numerics, differentiable=training)
        device = backbone.device
        self.head = nn.Linear(backbone.info.width, len(data.class_names), device=device)
        self.pixels = torch.from_numpy(data.inputs.pixels()).to(device)
        self.labels = torch.from_numpy(data.labels).to(device)
        self.size = backbone.preprocessing.size
        self.mean = torch.tensor(backbone.preprocessing.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(backbone.preprocessing.std, device=device).view(3, 1, 1)

    def train(self, batch: int, lr: float) -> float:
        """One epoch of AdamW under a cosine, with flips; the mean loss."""
        self.net.train()
        parameters = [*self.net.parameters(), *self.head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=lr, fused=True)
        cuts = torch.randperm(len(self.pixels)).split(batch)
        total = torch.zeros((), device=self.pixels.device)
        for step, cut in enumerate(cuts):
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / len(cuts)))
            cut = cut.to(self.pixels.device)
            images = self._prepare(self.pixels[cut])
            mirrored = torch.rand(len(images), device=images.device) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
            with self.numerics.autocast():
                loss = F.cross_entropy(self.head(self.net(images)), self.labels[cut])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item() / len(cuts)

    @torch.no_grad()
    def predict(self, batch: int) -> Tensor:
        """Logits (N, classes) on the CPU."""
        self.net.eval()
        logits = []
        for pixels in self.pixels.split(batch):
            with self.numerics.autocast():
                features = self.net(self._prepare(pixels))
            logits.append(self.head(features.float()).cpu())
        return torch.cat(logits)

    def _prepare(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).float().div(255)
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bicubic", align_corners=False)
        return (images - self.mean) / self.std

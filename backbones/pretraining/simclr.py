"""SimCLR: two views of an image find each other among all views of the batch.

Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", ICML 2020.

    z = W2 relu(W1 h)                                                          h: the pooled features
    l(i, j) = -log exp(cos(z_i, z_j) / t) / sum_{k != i} exp(cos(z_i, z_k) / t)       NT-Xent (eq. 1)

The loss is the mean of l over all 2B ordered pairs (i, j) of views of the same image. W1 and W2 are
discarded.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.errors import RequestError


class SimCLR(nn.Module):
    """The objective "simclr" on any network of timm's that pools its features into one vector.

    projection_width: channels of z, 128 in the paper; temperature: t, which divides the cosines.
    """

    views: ClassVar[int] = 2

    def __init__(self, net: nn.Module, projection_width: int = 128, temperature: float = 0.1) -> None:
        super().__init__()
        if projection_width < 1:
            raise RequestError(f"projection_width={projection_width} must be at least 1")
        if not temperature > 0:
            raise RequestError(f"temperature={temperature} must be above 0, such as 0.1")
        self.net = net
        self.temperature = temperature
        # Some convolutional networks of timm's widen their features after pooling.
        width = int(getattr(net, "head_hidden_size", net.num_features))  # type: ignore[arg-type]
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection_width))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss, scalar float32; images: (2B, 3, H, W), first views first; labels are ignored."""
        features = self.net.forward_head(self.net.forward_features(images), pre_logits=True)  # type: ignore[operator]
        return nt_xent(self.project(features), self.temperature)


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """Equation 1, averaged; z: (2B, D), rows i and B + i are views of one image; scalar, float32 at least.

    Never below log(1 + (2B - 2) exp(-B / ((B - 1) t))), its value if the views agree and the images' vectors
    are the corners of a regular simplex. RequestError for B = 1: one image has nothing to contrast with.
    """
    rows = len(z)
    if z.ndim != 2 or rows % 2:
        raise ValueError(f"two views of each image are wanted as rows (2B, D), not {tuple(z.shape)}")
    if rows < 4:
        raise RequestError("objective simclr needs at least 2 images in a batch; raise batch_size")
    # Autocast would round the cosines to 8 bits before they are divided by the temperature.
    with torch.autocast(z.device.type, enabled=False):
        z = F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=1)
        itself = torch.eye(rows, dtype=torch.bool, device=z.device)
        logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
        other_view = torch.arange(rows, device=z.device).roll(rows // 2)
        return F.cross_entropy(logits, other_view)

"""The promises of a backbone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial

import numpy as np
import torch

from backbones.backbone import Backbone, describe, open_backbone
from backbones.numerics import Numerics
from benchmarks.images import Inputs
from carryover.check.pictures import pictures
from carryover.check.verdict import Verdict, each, expect, not_applicable
from carryover.protocols.rounding import Rounding


def check_backbone(name: str) -> Iterator[Verdict]:
    """A verdict for each promise of a backbone; RequestError if it cannot be opened."""
    found = OpenedBackbone(name)
    assert found.backbone
    checks = (
        ("builds", found.builds),
        ("features", found.features),
        ("tokens", found.tokens),
        ("image alone", found.alone),
        ("sites", found.sites),
        ("copy", found.copied),
    )
    return each(name, checks)


class OpenedBackbone:
    """A backbone, opened by its name without a store."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def backbone(self) -> Backbone:
        return open_backbone(self.name, numerics=Numerics())

    @cached_property
    def inputs(self) -> Inputs:
        return pictures(1, 0).inputs

    def builds(self) -> None:
        """It builds, and matches its description, which is known before its weights are loaded."""
        said, found = describe(self.name), self.backbone.info
        expect(said == found, f"{said}", f"{found}")
        trained = sum(p.numel() for p in self.backbone.net.parameters())
        expect(trained == said.parameters, f"{said.parameters} parameters", f"{trained}")

    def features(self) -> None:
        """Features are finite, have the declared width, and are the same when computed again."""
        found = self.backbone.features(self.inputs)
        shape = (len(self.inputs), self.backbone.info.width)
        expect(tuple(found.shape) == shape, f"features {shape}", f"{tuple(found.shape)}")
        expect(bool(torch.isfinite(found).all()), "finite features", "some are not")
        expect(torch.equal(found, self.backbone.features(self.inputs)), "the same bits again", "other bits")
        expect(len(found.unique(dim=0)) > 1, "features that differ between images", "the same for all")

    def tokens(self) -> None:
        """Patch tokens are finite and fill the declared grid."""
        height, width = self.backbone.info.grid
        shape = (len(self.inputs), height * width, self.backbone.info.width)
        found = self.backbone.tokens(self.inputs)
        expect(tuple(found.shape) == shape, f"tokens {shape}", f"{tuple(found.shape)}")
        expect(bool(torch.isfinite(found).all()), "finite tokens", "some are not")

    def alone(self) -> None:
        """An image's features do not depend on the images beside it."""
        found = Rounding(partial(self.backbone.features, self.inputs))
        first = np.arange(1)
        apart = found.unexplained(self.backbone.features(self.inputs.select(first)), first)
        expect(not apart, "the same features alone", f"other features, {apart}")

    def sites(self) -> None:
        """Its attention blocks are modules of the network, in the declared number."""
        found, said = self.backbone.sites(), self.backbone.info.blocks
        expect(len(found) == said, f"{said} attention blocks", f"{len(found)}")
        for site in found:
            there = site.block is self.backbone.net.get_submodule(site.name)
            expect(there, f"the module {site.name}", "another module")
        if not found:
            not_applicable("it has no attention blocks")

    def copied(self) -> None:
        """Training a copy leaves the original as it was loaded."""
        copy = self.backbone.copy()
        with torch.no_grad():
            for parameter in copy.net.parameters():
                parameter.add_(1.0)
        expect(self.backbone.pristine, "the network as it was loaded", "a network that changed with its copy")

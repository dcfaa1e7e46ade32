"""The page of all backbones that have a name of their own, and the cards of weights that ship."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import words

from backbones import evaluation, names, pretrained
from backbones.backbone import describe
from backbones.catalogue import find_recipe
from carryover.commands.listing import BESIDES
from carryover.plugins import catalogue
from carryover.plugins.plugin import Plugin

HEADS = ("backbone", "what it is", "family", "parameters", "pixels", "width", "tokens", "pooling", "weights")


def backbones_page() -> str:
    """Every backbone that `carryover ls backbones` lists; the networks are only sketched, without memory."""
    found = catalogue.backbones()
    rows = [_row(name, plugin) for name, plugin in found.items() if not plugin.problem]
    return words.page(
        "Backbones",
        "As `carryover ls backbones` lists them; parameters are counted without a classifier, tokens are "
        "patches and what stands before them.",
        words.table(HEADS, rows),
        "Besides:",
        "\n".join(f"- {more}" for more in BESIDES["backbones"]),
        "## How a backbone is typed",
        words.prose(words.after_first_line(inspect.cleandoc(names.__doc__ or ""))),
        "Making one from images of your own: [pretraining](../pretraining.md).",
        "## How networks of timm pool, and their pixels",
        words.prose(inspect.cleandoc(evaluation.__doc__ or "")),
        words.table(
            ("names", "pooling", "mean and deviation", "their resizing", "their crop", "source"),
            [_evaluated(row) for row in evaluation.TABLE],
        ),
        "## Weights that ship",
        *map(_card, sorted(Path(pretrained.__file__).parent.glob("*.md"))),
    )


def _row(name: str, plugin: Plugin) -> tuple[str, ...]:
    info, recipe = describe(name), find_recipe(name)
    tags = recipe.tags if recipe else ()
    tokens = f"{info.grid[0]} x {info.grid[1]}" + (f" + {info.prefix_tokens}" if info.prefix_tokens else "")
    return (
        f"`{name}`",
        plugin.summary.removesuffix("; random weights"),
        info.family.replace("_", " "),
        f"{info.parameters:,}",
        str(info.input_size[0]),
        str(info.width),
        tokens,
        info.pooling or "none",
        ", ".join(tags) or "random",
    )


def _evaluated(row: evaluation.Row) -> tuple[str, ...]:
    return (
        ", ".join(f"`{pattern}`" for pattern in row.patterns),
        row.pooling + (f" (timm: {row.instead})" if row.instead else ""),
        row.statistics or "of the tag",
        row.interpolation,
        f"{row.crop:g}" if row.crop else "differs",
        row.source,
    )


def _card(path: Path) -> str:
    """A card, one heading lower and without its picture."""
    text = re.sub(r"^!\[.*\n?", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.sub(r"^(#+ )", r"##\1", text.strip(), flags=re.MULTILINE)

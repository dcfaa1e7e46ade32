"""The backbones that have a name of their own: shipped, in `recipes/` or from a plugin; needs no torch."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from backbones import pretrained, tiny
from backbones.external_attention import configurations
from backbones.recipe import Recipe
from benchmarks.errors import RequestError

FOLDER = "backbones.recipes"


def backbone_names() -> dict[str, str]:
    """The names of own backbones and of plugins, each with a one-line summary; imports no plugin."""
    found = {recipe.name: summary_of(recipe) for _, recipe in own_recipes()}
    for path in recipe_files():
        found.setdefault(path.stem, f"file {FOLDER}.{path.stem}")
    for name, point in _plugins().items():
        found.setdefault(name, f"plugin {point.value}")
    return found


def summary_of(recipe: Recipe) -> str:
    """A recipe's line in a listing."""
    return recipe.summary if recipe.tags else f"{recipe.summary}; random weights"


def find_recipe(name: str) -> Recipe | None:
    """The recipe of an own name or a plugin's (imported now), with or without tag; None for another name."""
    bare = name.partition(".")[0]
    for _, recipe in own_recipes():
        if recipe.name == bare:
            return recipe
    point = _plugins().get(bare)
    found: object
    if bare in (path.stem for path in recipe_files()):
        where = f"{FOLDER}.{bare}"
        found = getattr(importlib.import_module(where), "RECIPE", None)
    elif point is not None:
        where = point.value
        found = point.load()
    else:
        return None
    if not isinstance(found, Recipe):
        raise RequestError(
            f"plugin backbone {name!r} ({where}) has the type {type(found).__name__}; make it a Recipe"
        )
    return found


def own_recipes() -> tuple[tuple[str, Recipe], ...]:
    """The recipes that ship, each with its module."""
    modules = (pretrained, configurations, tiny)
    return tuple((module.__name__, recipe) for module in modules for recipe in module.RECIPES)


def recipe_files() -> list[Path]:
    """The files of added backbones: each declares one `RECIPE`, under the file's name."""
    return sorted((Path(__file__).parent / "recipes").glob("[!_]*.py"))


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="carryover.backbones")}

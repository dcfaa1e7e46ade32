"""The names of backbones as users type them, read without torch.

    vit_64    vit_64.mae
    vit_small_patch16_224.augreg_in21k
    vit_tiny_patch16_224?img_size=64&patch_size=8&depth=6&mean=imagenet&weights=local.safetensors

An own name (a `Recipe` in this room: among those that ship, or one file each in `recipes/`; or one that a
plugin declares under the entry point `carryover.backbones`) or a name of timm's, with the tag of its
weights, then arguments of the network's constructor (a ConvNet takes `img_size` too) and `weights`,
`mean`, `std`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from benchmarks.errors import RequestError

Value = bool | int | float | str | tuple[int, ...]
Triple = tuple[float, float, float]

# (mean, standard deviation) of pixels in [0, 1] per channel.
STATISTICS: Mapping[str, tuple[Triple, Triple]] = MappingProxyType(
    {
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    }
)


Family = Literal["vit", "swin", "convnet", "external_attention"]

# The constructors of the families that have one each, as "module:attribute".
NETWORKS: Mapping[str, str] = MappingProxyType(
    {
        "vit": "timm.models.vision_transformer:VisionTransformer",
        "swin": "timm.models.swin_transformer:SwinTransformer",
        "external_attention": "backbones.external_attention.eamlp:EAMLP",
    }
)

FOLDER = "backbones.recipes"


@dataclass(frozen=True)
class Recipe:
    """An own backbone: a network built with these arguments, and the weights that ship for it.

    summary: one line for listings; arguments: of the constructor, and `img_size`; statistics: a name in
    STATISTICS; constructor: "module:attribute", the family's own by default; tags: of the shipped
    weights, the default first; without any, weights are random unless a file is named.
    """

    name: str
    summary: str
    family: Family
    arguments: Mapping[str, Value]
    statistics: str = "half"
    constructor: str = ""
    tags: tuple[str, ...] = ()

    @property
    def network(self) -> str:
        """Where the constructor is found, "module:attribute"."""
        return self.constructor or NETWORKS[self.family]


@dataclass(frozen=True)
class Spec:
    """A name, taken apart.

    base: the name before `?`, tag included; arguments: for the constructor, typed; weights: a path,
    "random", "pretrained" or None (not said); mean, std: per channel, or None (the network's own).
    """

    base: str
    arguments: Mapping[str, Value] = field(default_factory=dict)
    weights: str | None = None
    mean: Triple | None = None
    std: Triple | None = None
    typed: tuple[tuple[str, str], ...] = ()

    @property
    def canonical(self) -> str:
        """The name with its parameters sorted, as typed otherwise."""
        return self.base + ("?" + "&".join(f"{key}={text}" for key, text in self.typed) if self.typed else "")

    @property
    def architecture(self) -> str:
        """What shapes the network and not its weights: the name without tag, then the arguments."""
        said = [f"{key}={text}" for key, text in self.typed if key in self.arguments]
        return self.base.partition(".")[0] + (f"[{','.join(said)}]" if said else "")

    def with_weights(self, path: str | None) -> Spec:
        """The same backbone with other weights; None leaves them unsaid."""
        typed = {**dict(self.typed), "weights": path or ""}
        return replace(self, weights=path, typed=tuple(sorted(item for item in typed.items() if item[1])))


def parse(name: str) -> Spec:
    """Take a typed name apart; RequestError for a parameter without value or repeated, and bad statistics."""
    base, _, query = name.strip().partition("?")
    typed: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        key, equals, text = item.partition("=")
        if not (key and equals and text):
            raise RequestError(
                f"backbone {name!r}: {item!r} is not a parameter; write key=value, joined by &"
            )
        if key in typed:
            raise RequestError(f"backbone {name!r} says {key} twice; say it once")
        typed[key] = text
    arguments = {key: _value(text) for key, text in typed.items() if key not in ("weights", "mean", "std")}
    mean, std = _statistics(name, typed)
    return Spec(base, arguments, typed.get("weights"), mean, std, tuple(sorted(typed.items())))


def backbone_names() -> dict[str, str]:
    """Own names and those of plugins, each with its one-line summary; a plugin is not imported for it."""
    found = {recipe.name: summary_of(recipe) for _, recipe in own_recipes()}
    for path in recipe_files():
        found.setdefault(path.stem, f"file {FOLDER}.{path.stem}")
    for name, point in _plugins().items():
        found.setdefault(name, f"plugin {point.value}")
    return found


def summary_of(recipe: Recipe) -> str:
    """Its line in a listing."""
    return recipe.summary if recipe.tags else f"{recipe.summary}; random weights"


def find_recipe(name: str) -> Recipe | None:
    """The recipe of an own name or a plugin's (which is imported now), tag or not; None for any other."""
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
        raise RequestError(f"plugin backbone {name!r} ({where}) is a {type(found).__name__}, not a Recipe")
    return found


def own_recipes() -> tuple[tuple[str, Recipe], ...]:
    """The recipes that ship, each with the module that it is in."""
    from backbones import pretrained, tiny  # they import Recipe from here
    from backbones.external_attention import configurations

    modules = (pretrained, configurations, tiny)
    return tuple((module.__name__, recipe) for module in modules for recipe in module.RECIPES)


def recipe_files() -> list[Path]:
    """One file for each backbone that somebody added to this room: `RECIPE`, under the file's name."""
    return sorted((Path(__file__).parent / "recipes").glob("[!_]*.py"))


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="carryover.backbones")}


def _value(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        return text


def _statistics(name: str, typed: Mapping[str, str]) -> tuple[Triple | None, Triple | None]:
    """mean and std; a named mean brings its std along unless that is said too."""
    mean, std = typed.get("mean"), typed.get("std")
    if std is None and mean in STATISTICS:
        std = mean
    found: list[Triple | None] = []
    for place, (key, text) in enumerate((("mean", mean), ("std", std))):
        if text is None or text in STATISTICS:
            found.append(None if text is None else STATISTICS[text][place])
            continue
        try:
            first, second, third = (float(part) for part in text.split(","))
        except ValueError:
            known = " or ".join(STATISTICS)
            raise RequestError(
                f"backbone {name!r}: {key}={text} is neither {known} nor three numbers"
            ) from None
        found.append((first, second, third))
    if found[1] is not None and min(found[1]) <= 0:
        raise RequestError(f"backbone {name!r}: std={std} must be positive in every channel")
    return found[0], found[1]

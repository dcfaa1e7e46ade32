"""From a name to timm's network without classifier: which names exist, what arguments they take."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import get_deprecated_models, get_pretrained_cfg
from torch import nn

from backbones.catalogue import backbone_names, find_recipe
from backbones.evaluation import evaluated
from backbones.families import input_size, pooling_of
from backbones.names import Spec, parse
from backbones.preprocessing import Preprocessing
from backbones.recipe import STATISTICS, Recipe, Value
from backbones.structure import pass_through
from benchmarks.errors import RequestError, unknown

# Arguments that are ours to set, or that are no value a user could type.
CLOSED = (
    "self",
    "num_classes",
    "in_chans",
    "device",
    "dtype",
    "weight_init",
    "fix_init",
    "dynamic_img_size",
    "dynamic_img_pad",
    "strict_img_size",
    "always_partition",
)
# How timm makes a network that takes images of any size, where it has the argument; a ConvNet does by nature.
ANY_SIZE: Mapping[str, Value] = {"dynamic_img_size": True, "strict_img_size": False}
# Attention layers of this house, by the word that a user types after attn_layer=.
ATTENTION: Mapping[str, str] = {
    "external_attention": "backbones.external_attention.attention:MultiHeadExternalAttention"
}
LAYERS = ("norm_layer", "act_layer", "embed_norm_layer", "attn_layer")


def spec_of(name: str) -> Spec:
    """The parsed name; an old name of timm's is replaced by its present one, as timm itself maps it.

    RequestError as in `parse`, and for a name that timm removed without a successor.
    """
    spec = parse(name)
    architecture, dot, tag = spec.base.partition(".")
    if find_recipe(spec.base) is not None:
        return spec
    old = get_deprecated_models()
    if architecture not in old:
        return spec
    present = old[architecture]
    if present is None:
        raise RequestError(f"backbone {spec.base!r} was removed from timm; take another name")
    if dot and tag and present != f"{present.partition('.')[0]}.{tag}":
        if "." in present:
            raise RequestError(
                f"backbone {spec.base!r}: timm calls {architecture} {present} now, which has a tag already; "
                f"take {present}"
            )
        present += f".{tag}"
    return replace(spec, base=present)


def build(spec: Spec, classes: int = 0, any_size: bool = False) -> nn.Module:
    """The network with initial weights, on the default device (under torch.device("meta"): no memory).

    classes: of a classifier, 0 for none; any_size: whether it takes images of other sizes than its own,
    with the same parameters. On the meta device it is passed through (see `structure`).

    RequestError for an unknown name, tag or argument, an argument of the wrong type, values that do not
    fit together, and a network whose features or patches cannot be read.
    """
    recipe = find_recipe(spec.base)
    if recipe is None:
        _check_name(spec.base)
    else:
        _check_tag(spec.base, recipe)
    constructor, arguments = _constructor(spec, recipe, any_size)
    try:
        net = constructor(num_classes=classes, **arguments)
        _call_readers(net)
        _check_shape(net, spec)
    except RequestError as error:
        raise RequestError(f"backbone {spec.canonical!r} cannot be used: {error}") from None
    except (AssertionError, TypeError, ValueError, RuntimeError, ZeroDivisionError, IndexError) as error:
        said = str(error).strip() or type(error).__name__
        raise RequestError(
            f"backbone {spec.canonical!r} cannot be built: its arguments do not fit together ({said})"
        ) from error
    return net


def preprocessing_of(net: nn.Module, spec: Spec) -> Preprocessing:
    """The preprocessing of the model's own data config and input size, except where the name overrides it."""
    recipe = find_recipe(spec.base)
    if recipe is not None:
        mean, std = STATISTICS[recipe.statistics]
    else:
        config = resolve_model_data_config(net)
        mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocessing(size_of(net, spec), spec.mean or mean, spec.std or std)


def size_of(net: nn.Module, spec: Spec) -> tuple[int, int]:
    """(height, width) in pixels of the network's input."""
    recipe = find_recipe(spec.base)
    return input_size(net, {**(recipe.arguments if recipe else {}), **spec.arguments})


def pooling_and_source(net: nn.Module, spec: Spec) -> tuple[str, str]:
    """How the network pools, and after whom: a source in the table of `evaluation`, timm, or who typed it."""
    pooling = pooling_of(net)
    if find_recipe(spec.base) is not None:
        return pooling, ""
    if "global_pool" in spec.arguments:
        return pooling, "as typed"
    row = evaluated(_whole_name(spec.base))
    return pooling, f"as in {row.source.partition(' (')[0]}" if row is not None else "as timm has it"


def _constructor(
    spec: Spec, recipe: Recipe | None, any_size: bool
) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """What makes the network, and its arguments; RequestError for one that it does not take."""
    if recipe is not None:
        make = _imported(recipe.network)
    else:
        create: Callable[..., nn.Module] = timm.create_model
        make = partial(create, spec.base, pretrained=False)
    arguments: dict[str, Any] = {**(recipe.arguments if recipe else {}), **spec.arguments}
    row = evaluated(_whole_name(spec.base)) if recipe is None else None
    if row is not None and row.instead is not None:
        arguments.setdefault("global_pool", row.pooling)
    if arguments or any_size:
        taken = _parameters(_class_of(make, recipe))
        _check_arguments(spec, taken)
        if "img_size" not in taken:  # a word of ours, for a network that takes any size
            arguments.pop("img_size", None)
        if any_size:
            arguments |= {name: value for name, value in ANY_SIZE.items() if name in taken}
    if arguments.get("attn_layer") in ATTENTION:
        layer = _imported(ATTENTION[str(arguments.pop("attn_layer"))])
        make = partial(make, attn_layer=layer)
    return make, arguments


def _class_of(make: Callable[..., nn.Module], recipe: Recipe | None) -> type[nn.Module]:
    """The class that `make` makes; timm's functions hide its arguments."""
    if isinstance(make, type):
        return make
    with torch.device("meta"):
        return type(make(num_classes=0, **_without_size(recipe.arguments if recipe else {})))


def _parameters(made: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The arguments of a class, with those that it hands on to the classes above it."""
    found: dict[str, inspect.Parameter] = {}
    for one in made.__mro__:
        own = inspect.signature(one.__init__).parameters  # type: ignore[misc]
        found = {**own, **found}
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return found


def _whole_name(base: str) -> str:
    """architecture.tag, with timm's default tag where none is said."""
    config = get_pretrained_cfg(base)
    tag = config.tag if config is not None else ""
    return f"{base.partition('.')[0]}.{tag}" if tag else base


def _call_readers(net: nn.Module) -> None:
    """Let attention call its `qkv` and add the biases of q and v afterwards, as timm can do by itself.

    Otherwise EVA, BEiT and Swin V2 read the layer's weight: whatever a method does to the layer (low-rank
    updates, scales) would be passed by, without an error.
    """
    for module in net.modules():
        if hasattr(module, "qkv_bias_separate"):
            cast(Any, module).qkv_bias_separate = True


def _without_size(arguments: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in arguments.items() if name != "img_size"}


def _imported(path: str) -> Callable[..., nn.Module]:
    module, _, name = path.partition(":")
    found: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    return found


def _check_tag(base: str, recipe: Recipe) -> None:
    _, dot, tag = base.partition(".")
    if dot and tag not in recipe.tags:
        raise unknown(f"tag of {recipe.name}", tag, recipe.tags)


def _check_name(base: str) -> None:
    architecture, _, tag = base.partition(".")
    if not timm.is_model(architecture):
        own = backbone_names()
        near = difflib.get_close_matches(base, [*own, *timm.list_models()], n=1, cutoff=0.5)
        way_out = "Or any timm name" + (f", such as {near[0]}." if near and near[0] not in own else ".")
        raise unknown("backbone", base, own, way_out)
    tags = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise unknown(f"tag of {architecture}", tag, tags)


def _check_arguments(spec: Spec, taken: Mapping[str, inspect.Parameter]) -> None:
    """RequestError for an argument that is not `taken`, or whose type is not its default's."""
    defaults: dict[str, object] = {"img_size": 224}  # what every network has, a ConvNet as our word
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    defaults |= {name: one.default for name, one in taken.items() if one.kind in named}
    typable = {
        name: default
        for name, default in defaults.items()
        if name not in CLOSED and (name in LAYERS or not callable(default))
    }
    for key, value in spec.arguments.items():
        if key not in typable:
            raise unknown(f"parameter of backbone {spec.base}", key, [*typable, "weights", "mean", "std"])
        if key == "attn_layer" and value not in ATTENTION:
            raise unknown("attn_layer", str(value), ATTENTION)
        wanted = _wanted(key, typable[key])
        if not _fits(value, wanted):
            raise RequestError(f"backbone {spec.canonical!r}: {key}={_text(value)} must be {wanted}")


def _wanted(key: str, default: object) -> str:
    """In words, what an argument must be."""
    if key in ("img_size", "patch_size", "window_size"):
        return "a whole number above 0, or two (height,width)"
    if key == "fc_norm" or isinstance(default, bool):
        return "true or false"
    if key == "head_dim" or isinstance(default, int):
        return "a whole number" if default == 0 else "a whole number above 0"
    if key == "init_values" or isinstance(default, float):
        return "a number"
    return "whole numbers joined by commas" if isinstance(default, tuple) else "a word"


def _fits(value: Value, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "true or false"
    if isinstance(value, int):
        least = 1 if "above 0" in wanted else 0
        return wanted == "a number" or (wanted.startswith("a whole number") and value >= least)
    if isinstance(value, tuple):
        sides = len(value) == 2 and wanted.endswith("(height,width)")
        return min(value) > 0 and (sides or wanted.startswith("whole numbers"))
    return wanted == ("a number" if isinstance(value, float) else "a word")


def _text(value: Value) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_shape(net: nn.Module, spec: Spec) -> None:
    """RequestError unless the patch divides the image and features and patches can be read."""
    size = size_of(net, spec)
    embed = getattr(net, "patch_embed", None)
    patch = getattr(embed, "patch_size", (1, 1)) if hasattr(embed, "img_size") else (1, 1)
    # Some networks of timm's (SigLIP at 384 px) leave a margin on purpose; a typed size is checked.
    if spec.arguments.keys() & {"img_size", "patch_size"} and any(
        pixels % part for pixels, part in zip(size, patch, strict=True)
    ):
        raise RequestError(f"patch {patch[0]}x{patch[1]} does not divide its image of {size[0]}x{size[1]}")
    if next(net.parameters()).is_meta:
        pass_through(net, size)

"""From a name to timm's network without classifier: which names exist, what arguments they take."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import model_entrypoint
from torch import nn

from backbones.catalogue import backbone_names, find_recipe
from backbones.families import CONVNETS, SWINS, VITS, family_of, input_size, pooling_of, shape_of
from backbones.names import Spec
from backbones.preprocessing import Preprocessing
from backbones.recipe import NETWORKS, STATISTICS, Recipe, Value
from backbones.sites import find_sites
from benchmarks.errors import RequestError, unknown

FILES = (*VITS, *SWINS, *CONVNETS)

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
# How timm makes a network that takes images of any size; a ConvNet does by nature.
ANY_SIZE: Mapping[str, Mapping[str, Value]] = {
    "vit": {"dynamic_img_size": True},
    "swin": {"strict_img_size": False},
}
# Attention layers of this house, by the word that a user types after attn_layer=.
ATTENTION: Mapping[str, str] = {
    "external_attention": "backbones.external_attention.attention:MultiHeadExternalAttention"
}
LAYERS = ("norm_layer", "act_layer", "embed_norm_layer", "attn_layer")


def build(spec: Spec, classes: int = 0, any_size: bool = False) -> nn.Module:
    """The network with initial weights, on the default device (under torch.device("meta"): no memory).

    classes: of a classifier, 0 for none; any_size: whether it takes images of other sizes than its own,
    with the same parameters.

    RequestError for an unknown name, tag or argument, an argument of the wrong type, values that do not
    fit together, and a network of a family that Carryover does not know.
    """
    recipe = find_recipe(spec.base)
    if recipe is None:
        _check_name(spec.base)
    else:
        _check_tag(spec.base, recipe)
    network, constructor = _constructor(spec, recipe)
    _check_arguments(spec, network)
    family = recipe.family if recipe else family_of_file(spec.base)
    arguments = {**(recipe.arguments if recipe else {}), **spec.arguments}
    if family == "convnet":
        arguments = _without_size(arguments)  # a ConvNet takes any
    if arguments.get("attn_layer") in ATTENTION:
        layer = _imported(ATTENTION[str(arguments.pop("attn_layer"))])
        constructor = partial(constructor, attn_layer=layer)
    if any_size:
        arguments |= ANY_SIZE.get(family or "", {})
    try:
        net = constructor(num_classes=classes, **arguments)
        if family_of(net) is None:
            raise RequestError(f"it is a {type(net).__name__}, neither ViT, Swin nor ConvNet")
        find_sites(net)
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


def family_of_file(base: str) -> str | None:
    """The family of a timm name, by the file of timm that it is in."""
    file = _file_of(base)
    return "vit" if file in VITS else "swin" if file in SWINS else "convnet" if file in CONVNETS else None


def _constructor(spec: Spec, recipe: Recipe | None) -> tuple[Callable[..., object], Callable[..., nn.Module]]:
    """What states the arguments, and what makes the network from them."""
    if recipe is not None:
        make = _imported(recipe.network)
    else:
        create: Callable[..., nn.Module] = timm.create_model
        make = partial(create, spec.base, pretrained=False)
        family = family_of_file(spec.base) or ""
        if family in NETWORKS:
            return _imported(NETWORKS[family]), make
    if isinstance(make, type):
        return make, make
    with torch.device("meta"):  # timm's functions hide the arguments of the class that they make
        return type(make(num_classes=0, **_without_size(recipe.arguments if recipe else {}))), make


def _without_size(arguments: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in arguments.items() if name != "img_size"}


def _imported(path: str) -> Callable[..., nn.Module]:
    module, _, name = path.partition(":")
    found: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    return found


def _file_of(base: str) -> str:
    return model_entrypoint(base.partition(".")[0]).__module__.rpartition(".")[2]


def _check_tag(base: str, recipe: Recipe) -> None:
    _, dot, tag = base.partition(".")
    if dot and tag not in recipe.tags:
        raise unknown(f"tag of {recipe.name}", tag, recipe.tags)


def _check_name(base: str) -> None:
    architecture, _, tag = base.partition(".")
    if not timm.is_model(architecture):
        own = backbone_names()
        names = [name for file in FILES for name in timm.list_models(module=file)]
        near = difflib.get_close_matches(base, [*own, *names], n=1, cutoff=0.5)
        way_out = "Or any timm ViT, Swin or ConvNet name" + (
            f", such as {near[0]}." if near and near[0] not in own else "."
        )
        raise unknown("backbone", base, own, way_out)
    if _file_of(base) not in FILES:
        raise RequestError(
            f"backbone {base!r} is neither a ViT, a Swin nor a ConvNet as Carryover knows them (timm has "
            f"it in {_file_of(base)}.py); take one of {', '.join(sorted(backbone_names()))}, or another name"
        )
    tags = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise unknown(f"tag of {architecture}", tag, tags)


def _check_arguments(spec: Spec, network: Callable[..., object]) -> None:
    """RequestError for an argument that `network` does not take, or whose type is not its default's."""
    defaults: dict[str, object] = {"img_size": 224}  # what every network has, a ConvNet as our word
    defaults |= {name: one.default for name, one in inspect.signature(network).parameters.items()}
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
    """RequestError unless the patch divides the image and the head pools tokens into one vector."""
    size = size_of(net, spec)
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", (1, 1))
    # Some networks of timm's (SigLIP at 384 px) leave a margin on purpose; a typed size is checked.
    if spec.arguments.keys() & {"img_size", "patch_size"} and any(
        pixels % part for pixels, part in zip(size, patch, strict=True)
    ):
        raise RequestError(f"patch {patch[0]}x{patch[1]} does not divide its image of {size[0]}x{size[1]}")
    if not pooling_of(net):
        raise RequestError("it pools nothing; give global_pool=token or global_pool=avg")
    if next(net.parameters()).is_meta:
        shape_of(net, size)

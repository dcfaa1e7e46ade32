"""From a name to timm's network without classifier: which names exist, what arguments they take."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

import timm
from timm.data.config import resolve_model_data_config
from timm.models import model_entrypoint
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.names import STATISTICS, Recipe, Spec, Value, backbone_names, find_recipe
from backbones.preprocessing import Preprocessing
from backbones.sites import family_of, find_sites
from benchmarks.errors import RequestError, unknown

# timm's files whose networks are VisionTransformer or SwinTransformer; other "vit" and "swin" there
# (Swin V2, rotary and relative-position ViTs) have attention of another kind.
FILES = ("vision_transformer", "vision_transformer_hybrid", "deit", "swin_transformer")

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
)
LAYERS = ("norm_layer", "act_layer", "embed_norm_layer")


def build(spec: Spec) -> nn.Module:
    """The network with initial weights, on the default device (under torch.device("meta"): no memory).

    RequestError for an unknown name, tag or argument, an argument of the wrong type, values that do not
    fit together, and a network that is neither ViT nor Swin.
    """
    recipe = find_recipe(spec.base)
    if recipe is None:
        _check_name(spec.base)
    _check_arguments(spec, VisionTransformer if _family(spec, recipe) == "vit" else SwinTransformer)
    try:
        net = _make(spec, recipe)
        if family_of(net) is None:
            raise RequestError(f"it is a {type(net).__name__}, neither ViT nor Swin")
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
    """From the model's own data config, except what the name says; the size is the network's own."""
    recipe = find_recipe(spec.base)
    if recipe is not None:
        mean, std = STATISTICS[recipe.statistics]
    else:
        config = resolve_model_data_config(net)
        mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocessing(input_size(net), spec.mean or mean, spec.std or std)


def input_size(net: nn.Module) -> tuple[int, int]:
    """(height, width) in pixels."""
    height, width = net.patch_embed.img_size  # type: ignore[union-attr, misc]
    return int(height), int(width)


def _make(spec: Spec, recipe: Recipe | None) -> nn.Module:
    if recipe is None:
        create: Callable[..., nn.Module] = timm.create_model
        return create(spec.base, pretrained=False, num_classes=0, **spec.arguments)
    network: Callable[..., nn.Module] = VisionTransformer if recipe.family == "vit" else SwinTransformer
    return network(num_classes=0, **{**recipe.arguments, **spec.arguments})


def _family(spec: Spec, recipe: Recipe | None) -> str:
    if recipe is not None:
        return recipe.family
    return "swin" if _file_of(spec.base) == "swin_transformer" else "vit"


def _file_of(base: str) -> str:
    return model_entrypoint(base.partition(".")[0]).__module__.rpartition(".")[2]


def _check_name(base: str) -> None:
    architecture, _, tag = base.partition(".")
    if not timm.is_model(architecture):
        own = backbone_names()
        names = [name for file in FILES for name in timm.list_models(module=file)]
        near = difflib.get_close_matches(base, [*own, *names], n=1, cutoff=0.5)
        way_out = "Or any timm ViT or Swin name" + (
            f", such as {near[0]}." if near and near[0] not in own else "."
        )
        raise unknown("backbone", base, own, way_out)
    if _file_of(base) not in FILES:
        raise RequestError(
            f"backbone {base!r} is neither a ViT nor a Swin as Carryover knows them (timm has it in "
            f"{_file_of(base)}.py); take one of {', '.join(sorted(backbone_names()))} or a timm ViT or Swin"
        )
    tags = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise unknown(f"tag of {architecture}", tag, tags)


def _check_arguments(spec: Spec, network: type[nn.Module]) -> None:
    """RequestError for an argument that `network` does not take, or whose type is not its default's."""
    defaults = {name: one.default for name, one in inspect.signature(network).parameters.items()}
    typable = {
        name: default
        for name, default in defaults.items()
        if name not in CLOSED and (name in LAYERS or not callable(default))
    }
    for key, value in spec.arguments.items():
        if key not in typable:
            raise unknown(f"parameter of backbone {spec.base}", key, [*typable, "weights", "mean", "std"])
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
    size, patch = input_size(net), getattr(net.patch_embed, "patch_size", (1, 1))
    # Some networks of timm's (SigLIP at 384 px) leave a margin on purpose; a typed size is checked.
    if spec.arguments.keys() & {"img_size", "patch_size"} and any(
        pixels % part for pixels, part in zip(size, patch, strict=True)
    ):
        raise RequestError(f"patch {patch[0]}x{patch[1]} does not divide its image of {size[0]}x{size[1]}")
    if not pooling_of(net):
        raise RequestError("it pools nothing; give global_pool=token or global_pool=avg")


def pooling_of(net: nn.Module) -> str:
    """How tokens become one feature vector, in timm's word; empty for not at all."""
    if family_of(net) == "swin":
        return str(net.head.global_pool.pool_type or "")  # type: ignore[union-attr]
    return str(net.global_pool)

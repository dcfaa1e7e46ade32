"""The entries of a file of weights, fitted to a network as timm itself fits them.

Wrappers leave a prefix on every name (`module.` of DataParallel, `model.` of Lightning, `_orig_mod.` of
torch.compile); timm's filter of the architecture renames entries of the authors' files and resamples what
depends on the image size (position codes, patches). Then every name and shape has to fit.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import timm
import torch
from timm.models import _builder
from torch import Tensor, nn

from backbones.catalogue import find_recipe
from backbones.names import Spec
from benchmarks.errors import RequestError

WRAPPERS = ("module.", "model.", "_orig_mod.")
CLASSIFIERS = ("head.", "head_dist.", "fc.", "classifier.")

State = dict[str, Tensor]
Filter = Callable[..., Mapping[str, Any]]
_ONE_AT_A_TIME = threading.Lock()


def fitted(what: str, state: State, net: nn.Module, spec: Spec, *, strict: bool = True) -> State:
    """The entries of a state that fill `net`, under its names and in its shapes.

    Entries of a classifier and of buffers that the network computes itself are left out. strict: others that
    it has no place for are refused. RequestError names what is missing, unexpected or of another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    found = _filtered(unwrapped(state), net, spec)
    if not found.keys() & wanted.keys() and (inner := _inside(state, wanted)):
        found = _filtered(inner, net, spec)
    derived = {name for name, _ in net.named_buffers()} - set(wanted)
    classifiers = (*CLASSIFIERS, *(f"{name}." for name in _classifiers(net)))
    for name in list(found):
        if name not in wanted and (name.startswith(classifiers) or name in derived or not strict):
            del found[name]
    other = [name for name in found if name in wanted and tuple(found[name].shape) != wanted[name]]
    shapes = [f"{name} {tuple(found[name].shape)} for {wanted[name]}" for name in other]
    faults = [
        _listed("missing", [name for name in wanted if name not in found]),
        _listed("unexpected", [name for name in found if name not in wanted]),
        _listed("of another shape", shapes),
    ]
    if any(faults):
        raise RequestError(
            f"{what} do not fit the network: {'; '.join(filter(None, faults))}; {_way_out(state, wanted)}"
        )
    return found


def unwrapped(state: State) -> State:
    """The entries without the prefixes that wrappers leave, where all of them have one."""
    names = list(state)
    while names and (prefix := _shared(names)):
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))


def _shared(names: Iterable[str]) -> str:
    found = {next((prefix for prefix in WRAPPERS if name.startswith(prefix)), "") for name in names}
    return found.pop() if len(found) == 1 else ""


def _inside(state: State, wanted: Mapping[str, object]) -> State:
    """The entries below one prefix (`backbone.`) that all but a classifier's share, if they fit by name."""
    names = {n: tensor for n, tensor in unwrapped(state).items() if not n.startswith(CLASSIFIERS)}
    first = {name.partition(".")[0] for name in names}
    if len(first) != 1:
        return {}
    prefix = f"{first.pop()}."
    inner = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
    return inner if inner.keys() & wanted.keys() else {}


def _way_out(state: State, wanted: Mapping[str, object]) -> str:
    """What to do about a file that does not fit."""
    longest = f".{max(wanted, key=len)}"
    inside = sorted({name.removesuffix(longest) for name in state if name.endswith(longest)})
    if inside:
        where = " and ".join(inside)
        return f"entries of the network lie under {where}, beside others, so save those of one alone"
    return (
        "name the architecture they were made with (img_size=, patch_size=, depth= and so on), another file, "
        "or weights=random"
    )


def _classifiers(net: nn.Module) -> tuple[str, ...]:
    said = getattr(net, "pretrained_cfg", {}).get("classifier") or ()
    return (said,) if isinstance(said, str) else tuple(said)


def _filtered(state: State, net: nn.Module, spec: Spec) -> State:
    filter_of = _filter_of(spec, net)
    if filter_of is None:
        return state
    try:
        try:
            found = filter_of(dict(state), net)
        except TypeError:  # as timm does: some take the state alone
            found = filter_of(dict(state))
    except (RuntimeError, ValueError, KeyError, AssertionError, IndexError, AttributeError):
        return state  # what it cannot read is told by its names and shapes
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def _filter_of(spec: Spec, net: nn.Module) -> Filter | None:
    """timm's filter of the architecture; of an own network the one beside the class that it is."""
    if find_recipe(spec.base) is not None:
        return getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    caught: list[Filter | None] = []

    def catch(model: nn.Module, *, filter_fn: Filter | None = None, **_: object) -> None:
        caught.append(filter_fn)

    # timm hands the filter to the function that loads and to nobody else, so it is caught there.
    with _ONE_AT_A_TIME, patch.object(_builder, "load_pretrained", catch), torch.device("meta"):
        timm.create_model(spec.base, pretrained=True, num_classes=0)
    return caught[0] if caught else None


def _listed(fault: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {fault} ({shown})" if names else ""

"""Weights: from a local safetensors file, from timm's hub, or drawn; and the hash that names them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from backbones.architecture import build, spec_of
from backbones.catalogue import find_recipe
from backbones.checkpoints import fitted, unwrapped
from backbones.names import Spec
from benchmarks import seeds
from benchmarks.errors import DataError, RequestError

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt", ".tar")
LINEARS = ("head.", "head.fc.", "fc.", "classifier.")  # where timm's last layer is
SHIPPED = Path(__file__).parent / "pretrained"


def hash_weights(net: nn.Module) -> str:
    """sha256 over names, dtypes, shapes and bytes of the state dict, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\0".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_weights(path: Path, net: nn.Module, spec: Spec) -> None:
    """Check a file from its header alone, whose shapes go through timm's filter; `net` is on the meta device.

    Classifier entries of the file are left out, buffers that Swin computes itself too. RequestError for
    a missing or truncated file, a pickle, and keys that are missing, unexpected or of another shape.
    """
    _refuse_pickle(path)
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RequestError(
            f"weights {path} cannot be read as safetensors ({error}); the file is truncated or of another "
            "kind, so give another"
        ) from None
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    fitted(f"weights {path}", state, net, spec)


def load_weights(path: Path, net: nn.Module, spec: Spec, *, strict: bool = True) -> bool:
    """Fill `net` from a safetensors file; values are converted to the network's precision.

    Returns whether any were resampled (position codes, patches of another size).

    strict: whether entries that the network has no place for are refused. RequestError as in
    `check_weights`, and for values that are not finite.
    """
    with safe_open(path, "pt") as file:
        state = {name: _float(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    own, numbers = net.state_dict(), _numbers(state.values())
    state = fitted(f"weights {path}", state, net, spec, strict=strict)
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RequestError(
                f"weights {path} hold values that are not finite, in {name}; the file is damaged"
            )
    net.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()}, strict=True)
    return not _numbers(state.values()) <= numbers


def _numbers(tensors: Iterable[Tensor]) -> Counter[int]:
    """How many tensors hold so many numbers: a resampled one is of a size that the file does not have."""
    return Counter(tensor.numel() for tensor in tensors)


def _float(tensor: Tensor) -> Tensor:
    # Before a filter resamples it: half precision would round twice.
    return tensor.float() if tensor.is_floating_point() else tensor


def fetch_pretrained(hub_id: str) -> Path:
    """The safetensors file of a model on the Hugging Face hub, from its local cache when it is there.

    DataError when the hub cannot be reached or has no such file.
    """
    # Imported here: the hub's client takes a third of a second, and most runs never need it.
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, "model.safetensors"))
    # The client raises errors of four libraries (its own, httpx, requests, OS) when it is offline.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise DataError(
            f"the pretrained weights of {hub_id} cannot be fetched from the hub ({reason}); "
            "give weights=PATH (a local safetensors file) or weights=random"
        ) from error


def shipped_file(spec: Spec) -> Path | None:
    """The weights that ship under this name and tag, or None for a name that has none."""
    recipe = find_recipe(spec.base)
    if recipe is None or not recipe.tags:
        return None
    tag = spec.base.partition(".")[2] or recipe.tags[0]
    return SHIPPED / f"{recipe.name}.{tag}.safetensors"


def source_of(spec: Spec) -> str:
    """Where the weights come from: "random", "pretrained" or a path; RequestError if none are pretrained."""
    own, shipped = find_recipe(spec.base) is not None, shipped_file(spec)
    source = spec.weights or (str(shipped) if shipped else "random" if own else "pretrained")
    if source == "pretrained" and (own or _hub(spec.base) is None):
        raise RequestError(
            f"backbone {spec.base!r} has no pretrained weights; give weights=PATH or weights=random"
        )
    return source


def with_weights(spec: Spec, sketch: nn.Module) -> tuple[nn.Module, str]:
    """The network with its weights on the CPU, and the tag that says where they come from.

    sketch: the same network, on the meta device perhaps, to check a file against before memory is spent.
    """
    source = source_of(spec)
    if source == "pretrained":
        hub = _hub(spec.base)
        assert hub is not None
        return _pretrained(spec, *hub), hub[1]
    if source != "random":
        check_weights(Path(source).expanduser(), sketch, spec)
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: torch.manual_seed would also touch every GPU's.
        torch.default_generator.manual_seed(seeds.derive("weights", spec.architecture))
        net = build(spec)
    if source == "random":
        return net, "random"
    path = Path(source).expanduser()
    check_card(path)
    resampled = load_weights(path, net, spec)
    if path == shipped_file(spec) and not resampled:
        return net, path.stem.partition(".")[2]
    return net, "local-resampled" if resampled else "local"


def with_classifier(name: str) -> nn.Module:
    """The network `name` with the classifier that its weights file holds, on the CPU, in evaluation mode.

    RequestError for weights without one.
    """
    spec = spec_of(name)
    path = Path(source_of(spec)).expanduser()
    if path.suffix != ".safetensors":
        raise RequestError(f"backbone {name!r} has no weights file with a classifier; give weights=PATH")
    with torch.device("meta"):
        check_weights(path, build(spec), spec)
    check_card(path)
    with safe_open(path, "pt") as file:
        state = unwrapped({key: file.get_tensor(key).float() for key in file.keys()})  # noqa: SIM118
    classes = [len(state[key]) for key in state if key in (f"{prefix}weight" for prefix in LINEARS)]
    if not classes:
        raise RequestError(
            f"weights {path} hold no classifier; give weights that have one over the same classes"
        )
    net = build(spec, classes[0])
    own = net.state_dict()
    found = fitted(f"weights {path}", state, net, spec)
    net.load_state_dict({key: found[key].to(own[key].dtype) for key in own})
    return net.eval()


def check_card(path: Path) -> None:
    """RequestError if a card lies beside the weights and names another hash."""
    card = path.with_suffix(".json")
    if not card.exists():
        return
    try:
        said = json.loads(card.read_text()).get("sha256")
    except (json.JSONDecodeError, AttributeError) as error:
        raise RequestError(f"the card {card} is damaged ({error}); fetch it and its weights again") from None
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if said != found:
        raise RequestError(
            f"weights {path} have the hash {found[:12]}, but their card says {str(said)[:12]}; one of the "
            "two was changed: fetch both again, or remove the card to use the weights as they are"
        )


def _pretrained(spec: Spec, hub_id: str, tag: str) -> nn.Module:
    # The file is fetched here, because timm's own download falls back to a pickle.
    path = fetch_pretrained(hub_id)
    with torch.random.fork_rng(devices=[]):
        net = build(spec)
    try:
        # What the hub's files hold besides (another head, a text tower) is the business of timm's filter.
        load_weights(path, net, spec, strict=False)
    except (RequestError, SafetensorError, OSError) as error:
        reason = str(error).strip().replace("\n", " ")[:300]
        raise DataError(
            f"the pretrained weights {tag} do not fit {spec.canonical!r} ({reason}); leave out arguments "
            "that change the network, give weights=random, or remove a damaged file from the hub's cache"
        ) from error
    return net


def _hub(base: str) -> tuple[str, str] | None:
    """(repository on the hub, tag) of a name of timm's; None if it has no weights there."""
    config = get_pretrained_cfg(base)
    return (config.hf_hub_id, config.tag or "pretrained") if config is not None and config.hf_hub_id else None


def _refuse_pickle(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise RequestError(
            f"weights file {path} does not exist; give the path of a safetensors file"
        ) from None
    except OSError as error:
        raise RequestError(
            f"weights file {path} cannot be read ({error.strerror}); make it readable"
        ) from None
    if path.suffix in PICKLES or start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[8:9] != b"{"):
        raise RequestError(
            f"weights file {path} is a pickle, and opening a pickle can run any code hidden in it; if you "
            "trust it, convert it with safetensors.torch.save_file and give the .safetensors file"
        )

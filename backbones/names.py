"""The names of backbones as users type them, read without torch.

    vit_64    vit_64.mae
    vit_small_patch16_224.augreg_in21k
    vit_tiny_patch16_224?img_size=64&patch_size=8&depth=6&mean=imagenet&weights=local.safetensors

The name is one of Carryover's own (a `Recipe` that ships, that a file in `recipes/` declares, or a plugin
under the entry point `carryover.backbones`) or one of timm's, with the tag of its weights. After `?` come
arguments of the network's constructor (a ConvNet takes `img_size` too), `weights`, `mean` and `std`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from backbones.recipe import STATISTICS, Triple, Value
from benchmarks.errors import RequestError


@dataclass(frozen=True)
class Spec:
    """A parsed name.

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
        """The name as typed, with its parameters sorted."""
        return self.base + ("?" + "&".join(f"{key}={text}" for key, text in self.typed) if self.typed else "")

    @property
    def architecture(self) -> str:
        """What shapes the network but not its weights: the name without tag, then the arguments."""
        said = [f"{key}={text}" for key, text in self.typed if key in self.arguments]
        return self.base.partition(".")[0] + (f"[{','.join(said)}]" if said else "")

    def with_weights(self, path: str | None) -> Spec:
        """The same backbone with the weights in `path`; None takes its default ones."""
        typed = {**dict(self.typed), "weights": path or ""}
        return replace(self, weights=path, typed=tuple(sorted(item for item in typed.items() if item[1])))


def parse(name: str) -> Spec:
    """Parse a typed name; RequestError for a parameter without value or repeated, and for bad statistics."""
    base, _, query = name.strip().partition("?")
    typed: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        key, equals, text = item.partition("=")
        if not (key and equals and text):
            raise RequestError(
                f"backbone {name!r}: {item!r} is not a parameter; write key=value, joined by &"
            )
        if key in typed:
            raise RequestError(f"backbone {name!r} gives {key} twice; give it once")
        typed[key] = text
    arguments = {key: _value(text) for key, text in typed.items() if key not in ("weights", "mean", "std")}
    mean, std = _statistics(name, typed)
    return Spec(base, arguments, typed.get("weights"), mean, std, tuple(sorted(typed.items())))


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

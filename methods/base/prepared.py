"""Tensors that a method needs before its first task: read from a file, or trained once on a pool."""

from __future__ import annotations

import hashlib
import sys
import time
from abc import abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import timm
import torch
from torch import Tensor

from backbones.backbone import Backbone
from benchmarks.errors import RequestError
from benchmarks.seeds import derive
from benchmarks.stream import Pool
from methods.base.card import PreparedCard, Setting, digest_of, file_name, read_card, read_tensors, write
from methods.base.method import Method, Preparation

KEPT = "prepared.safetensors"  # in an entry of the store
# What runs whenever a method is prepared, whichever it is.
_BENEATH = ("augment", "backbone", "families", "features", "loading", "numerics", "training")


class PreparedMethod(Method):
    """A method that starts from tensors which are trained on a pool once, whatever the seed of the cell.

    Its Config has an option named `file_option`:

        ""           the file that ships for the backbone and these options, else as "train"
        "train"      trained on the stream's pool, or read from the store where an earlier run kept it
        `untrained`  a word of the method's for neither
        a path       of NAME.safetensors

    file_needs: options that a run must share with a file; shipped: the folder of those that ship; optional:
    whether "" is as good as `untrained` where no file ships and there is no pool; warning: what is said of an
    untrained one; card: of what was read or trained, None before `prepare` and for an untrained one.
    """

    file_option: ClassVar[str]
    file_needs: ClassVar[tuple[str, ...]]
    shipped: ClassVar[Path]
    untrained: ClassVar[str]
    optional: ClassVar[bool] = False
    warning: ClassVar[str]

    card: PreparedCard | None = None
    _preparation: Preparation | None = None

    # What a method says.

    @abstractmethod
    def trained(self) -> dict[str, Tensor]:
        """The tensors that the preparation changes."""

    @abstractmethod
    def take(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `trained` returned; RuntimeError for tensors with other names or shapes."""

    @abstractmethod
    def train_on(self, pool: Pool) -> tuple[str, dict[str, Setting]]:
        """Train on `pool`, in place: how, in words, and the settings with what came out, for the card."""

    @abstractmethod
    def key_parts(self, pool: Pool) -> tuple[object, ...]:
        """What the trained tensors depend on, beside the backbone, the pool's images and `file_needs`."""

    def written(self) -> dict[str, Tensor]:
        """The tensors for a file: `trained`, or the same in fewer bits."""
        return self.trained()

    def file_ending(self) -> str:
        """The part of a file name between the backbone and .safetensors."""
        return ""

    @classmethod
    def ships(cls, config: Any, backbone: Backbone, card: PreparedCard) -> bool:
        """Whether a shipped file is used if none is named."""
        return card.weights == backbone.weights and card.options == _chosen(config, cls.file_needs)

    # What it gets.

    @classmethod
    def files(cls, config: Any, backbone: Backbone) -> tuple[Path, ...]:
        asked = getattr(config, cls.file_option)
        if asked in ("train", cls.untrained):
            return ()
        if asked:
            return (Path(asked).expanduser(),)
        found = sorted(cls.shipped.glob("*.safetensors"))
        return tuple(path for path in found if cls.ships(config, backbone, read_card(path)))[:1]

    def prepare(self, pool: Pool | None) -> None:
        """Prepare as the config says.

        RequestError for a file that does not fit and where there is neither file nor pool; DataError for a
        file that is missing or damaged.
        """
        option, stream = self.file_option, self.context.info.name
        asked = getattr(self.config, option)
        files = self.files(self.config, self.backbone)
        missing = f"no {option} ships for {self.backbone.name} with these options"
        why = f"{option}={asked}" if asked else missing
        if files:
            self._read(files[0])
        elif asked == self.untrained or (not asked and pool is None and self.optional):
            nowhere = "" if asked else f" and {stream} has no pool"
            self.context.progress.warn(f"{self.name}: {why}{nowhere}, so {self.warning}")
        elif pool is not None:
            self.train_once(pool)
        else:
            raise RequestError(
                f"{self.name}: {why}, and {stream} has no pool to train one on; name a file ({option}=PATH), "
                f"take a stream with a pool, or {option}={self.untrained}, which is not trained"
            )
        if self.card is not None:
            self._preparation = Preparation(digest_of(self.trained()), self.card.describe())

    def preparation(self) -> Preparation | None:
        return self._preparation

    def train_once(self, pool: Pool) -> None:
        """Train on `pool`, or read the result of an earlier run from the store."""
        store = self.backbone.store
        if store is None:
            self.card = self._train(pool)
            return

        def make(folder: Path) -> None:
            card = self._train(pool)
            write(folder / KEPT, self.trained(), card)

        # Of this class and those it extends, up to PreparedMethod: their code is what trains.
        own = [cls.__module__ for cls in type(self).__mro__ if issubclass(cls, PreparedMethod)][:-1]
        options = _chosen(self.config, self.file_needs)
        parts = type(self).__qualname__, pool.fingerprint, options, *self.key_parts(pool)
        path = store.get("prepared", store_key((*own,), self.backbone, *parts), make) / KEPT
        card = read_card(path)
        self.take(read_tensors(path, card))
        self.card = msgspec.structs.replace(card, stream=self.context.info.name, sha256="")

    def export(self, pool: Pool, folder: Path, *, stream: str, terms: str, commit: str) -> Path:
        """Write what `prepare(pool)` has just trained, and its card; RequestError for anything else."""
        card = self.card
        if card is None or card.pool != pool.fingerprint or card.sha256 or self.learnt:
            raise RequestError(
                f"the {self.file_option} of {self.name} was not trained on this pool just now, so there is "
                f"none to write; take {self.file_option}=train"
            )
        path = folder / f"{file_name(card.backbone)}{self.file_ending()}.safetensors"
        write(path, self.written(), msgspec.structs.replace(card, stream=stream, terms=terms, commit=commit))
        return path

    # How it is done.

    def _train(self, pool: Pool) -> PreparedCard:
        started, backbone = time.monotonic(), self.backbone
        said, settings = self.train_on(pool)
        return PreparedCard(
            kind=self.file_option,
            backbone=backbone.name,
            weights=backbone.weights,
            options=_chosen(self.config, self.file_needs),
            stream=self.context.info.name,
            pool=pool.fingerprint,
            said=said,
            settings=settings,
            numerics=backbone.numerics.describe(),
            seconds=round(time.monotonic() - started, 1),
            versions={"torch": str(torch.__version__), "timm": timm.__version__},
        )

    def _read(self, path: Path) -> None:
        option, backbone, card = self.file_option, self.backbone, read_card(path)
        if card.kind != option:
            raise RequestError(f"{path} is not a {option} but a {card.kind}, by its card; name another file")
        if card.weights != backbone.weights:
            raise RequestError(
                f"the {option} {path} was trained on {card.backbone} with weights {card.weights[:12]}, and "
                f"{backbone.name} has {backbone.weights[:12]}; take {option}=train or a {option} of its own"
            )
        asked = _chosen(self.config, self.file_needs)
        unlike = {name: card.options.get(name) for name in asked if card.options.get(name) != asked[name]}
        if unlike:
            said, wanted = (
                ", ".join(f"{name}={found[name]}" for name in unlike) for found in (unlike, asked)
            )
            raise RequestError(
                f"the {option} {path} has {said} and {wanted} {'is' if len(unlike) == 1 else 'are'} "
                f"asked for; say {said}, or take {option}=train"
            )
        tensors = read_tensors(path, card)
        try:
            self.take(tensors)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()  # of torch's list of them
            raise RequestError(
                f"the {option} {path} has other tensors than {self.name} on {backbone.name} ({reason}); "
                f"take {option}=train or a {option} of its own"
            ) from None
        self.card = card


def store_key(modules: tuple[str, ...], backbone: Backbone, *parts: object) -> str:
    """The key of what the code of `modules` makes from `parts` with `backbone` as it was loaded.

    Another version of that code, of the training loop, of torch or of timm is another key; of a package, all
    modules count.
    """
    said = derive(
        *modules,
        backbone.identity,
        backbone.weights,
        backbone.preprocessing.describe(),
        repr(backbone.info.grid),
        backbone.numerics.describe(),
        torch.__version__,
        timm.__version__,
        _code(modules),
        *map(repr, parts),
    )
    return f"{said:016x}"


def _code(modules: tuple[str, ...]) -> str:
    """Hash of the source of the modules and of what lies beneath every preparation."""
    files = []
    for name in dict.fromkeys(modules):
        file = Path(sys.modules[name].__file__ or "")
        files += sorted(file.parent.glob("*.py")) if file.stem == "__init__" else [file]
    for name in _BENEATH:
        spec = find_spec(f"backbones.{name}")
        assert spec is not None, name  # moved: the key must not lose it
        assert spec.origin is not None
        files.append(Path(spec.origin))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _chosen(config: Any, names: tuple[str, ...]) -> dict[str, Setting]:
    return {name: getattr(config, name) for name in names}

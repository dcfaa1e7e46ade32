"""The page of all methods: what each is, where it runs, what trains and what is kept, its options.

Where a method runs is what its `supports` answers, with the defaults of its Config, about tiny streams of
every protocol on a tiny backbone of every family; what trains is what a method made there leaves unfrozen.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import words
from torch import Tensor

from backbones.backbone import Backbone, open_backbone
from backbones.numerics import Numerics
from carryover.check.pictures import KINDS, WORDS, Kind, Pictures
from carryover.check.subject import Subject
from carryover.commands.listing import BESIDES
from carryover.plugins import catalogue
from carryover.plugins.plugin import OURS
from methods import sklearn_classifier
from methods.base import GradientMethod, Method, ParameterEfficient

FAMILIES = {
    "ViT": "tiny_vit",
    "Swin": "tiny_swin",
    "ConvNet": "tiny_convnet",
    "external attention": "tiny_external_attention",
}
TRAINING = "[options of training](#options-of-every-method-that-trains-by-gradient)"
COLUMNS = ("task", "class", "domain", "few-shot", "transfer", "ViT", "Swin", "ConvNet", "ext. attn.")


@dataclass(frozen=True)
class Reach:
    """The answers of `supports`: None or the reason, for each kind of stream and family of backbone."""

    kinds: dict[Kind, str | None]
    families: dict[str, str | None]

    @property
    def marks(self) -> list[str]:
        answers = [*self.kinds.values(), *self.families.values()]
        return [words.YES if answer is None else words.NO for answer in answers]


def methods_page() -> str:
    """Every method that `carryover ls methods` lists."""
    found = catalogue.methods()
    classes = {name: catalogue.method_class(name)[1] for name, plugin in found.items() if not plugin.problem}
    crowded = Counter(cls.__module__ for cls in classes.values())
    shared = {c.__module__: words.module_doc(c) for c in classes.values() if crowded[c.__module__] > 1}
    rows = [
        (f"[`{name}`](#{name})", _plain(found[name].summary), *reach_of(cls).marks)
        for name, cls in classes.items()
    ]
    return words.page(
        "Methods",
        f"{len(classes)} methods, as `carryover ls methods` lists them, with their documentation. "
        f"{words.YES}: it runs there with its defaults. In continual streams the task of a test image is "
        "known (task) or unknown (class, domain).",
        '<div class="matrix" markdown>',
        words.table(("method", "what it is", *COLUMNS), rows),
        "</div>",
        "Besides:",
        "\n".join(f"- {more}" for more in BESIDES["methods"]),
        *(
            method_part(name, cls, found[name].origin, cls.__module__ in shared)
            for name, cls in classes.items()
        ),
        "## sklearn:CLASS",
        words.prose(inspect.cleandoc(sklearn_classifier.__doc__ or "")),
        "## Options of every method that trains by gradient",
        words.options_table(GradientMethod.Config),
        "Methods that insert something small into a frozen network have one more option:",
        words.options_table(ParameterEfficient.Config, words.defaults(GradientMethod.Config)),
        "## Notes on several methods",
        *(f"### {module}\n\n{words.prose(said)}" for module, said in shared.items()),
    )


def method_part(name: str, cls: type[Method], origin: str, crowded: bool) -> str:
    """The part of one method; crowded: its module has others too, and its docstring a place of its own."""
    own = words.own_doc(cls)
    said = own if crowded else words.module_doc(cls)
    facts = [
        ("runs", _where(reach_of(cls))),
        ("trains", trained(cls)),
        ("stores", _stored(cls)),
        ("file", f"`{cls.__module__}`" + (f", of {origin}" if origin != OURS else "")),
    ]
    base = words.defaults(ParameterEfficient.Config) if issubclass(cls, GradientMethod) else {}
    together = f"More under [{cls.__module__}](#{_slug(cls.__module__)})." if crowded else ""
    options = words.options_table(cls.Config, base)
    return "\n\n".join(
        filter(
            None,
            [
                f"## {name}",
                f"**{_plain(words.first_line(said))}**",
                words.prose(words.after_first_line(said)),
                together,
                words.table(("", ""), facts),
                options,
                f"{'And the' if options else 'The'} {TRAINING}." if base else "",
            ],
        )
    )


@cache
def reach_of(cls: type[Method]) -> Reach:
    """Where it runs with its defaults: kinds on whatever family takes them, families for any kind."""
    config = cls.Config()
    answers = {
        (kind, family): cls.supports(config, stream(kind).info, backbone(opened).info)
        for kind in KINDS
        for family, opened in FAMILIES.items()
    }
    return Reach(
        {kind: _best([answers[kind, family] for family in FAMILIES]) for kind in KINDS},
        {family: _best([answers[kind, family] for kind in KINDS]) for family in FAMILIES},
    )


def trained(cls: type[Method]) -> str:
    """Which tensors of the network train, and how many numbers they hold, where the first family takes it."""
    config = cls.Config()
    for name in FAMILIES.values():
        for kind in KINDS:
            if cls.supports(config, stream(kind).info, backbone(name).info) is None:
                method = Subject(cls.name, cls, config, backbone(name), stream(kind)).make()
                return _trained(method, name)
    return "it runs on none of the tiny backbones"


def _trained(method: Method, name: str) -> str:
    whole = sum(tensor.numel() for tensor in backbone(name).net.parameters())
    cost, changing = method.footprint(), method.backbone.changing()
    if not (cost.trainable or changing):
        return "nothing within the network" + (f"; {cost.head:,} parameters of a head" if cost.head else "")
    head = f", and {cost.head:,} of a head" if cost.head else ""
    return f"{_names(changing)}; on `{name}` ({whole:,} parameters) {cost.trainable:,} numbers{head}"


def _names(changing: dict[str, Tensor]) -> str:
    """The tensors' names, with a star for what is counted or stands at the front."""
    patterns = Counter(re.sub(r"\b\d+\b", "*", name).replace(".default", "") for name in changing)
    if len(patterns) > 6:
        patterns = Counter("…" + "." + ".".join(name.split(".")[-2:]) for name in patterns.elements())
    if len(patterns) > 6:
        return f"{len(changing)} tensors"
    return ", ".join(f"`{name}`" + (f" ({count})" if count > 1 else "") for name, count in patterns.items())


def _stored(cls: type[Method]) -> str:
    """What its docstring says is stored, or its module's, or that of the nearest base that says it."""
    for base in cls.__mro__:
        for text in (words.own_doc(base), words.module_doc(base)):
            if said := words.sentence(text, "Stored"):
                return said.removeprefix("Stored").lstrip(": ")
    return ""


def _where(reach: Reach) -> str:
    """Where it runs in words, with the reason where it does not."""
    if not any(answer is None for answer in reach.kinds.values()):
        return f"none of the tiny streams and backbones: {reach.kinds['task']}"
    runs = [WORDS[kind] for kind, answer in reach.kinds.items() if answer is None]
    on = [family for family, answer in reach.families.items() if answer is None]
    said = f"{'all protocols' if len(runs) == len(KINDS) else ', '.join(runs)}; "
    said += "every family" if len(on) == len(FAMILIES) else ", ".join(on)
    for answers in (reach.kinds, reach.families):  # one reason of each sort: the others say the same
        said += next((f"<br>Elsewhere: {answer}." for answer in answers.values() if answer), "")
    return said


def _best(answers: list[str | None]) -> str | None:
    return None if None in answers else answers[0]


def _plain(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


def _slug(heading: str) -> str:
    return re.sub(r"[^\w-]", "", heading.lower())


@cache
def stream(kind: Kind) -> Pictures:
    return Pictures(kind)


@cache
def backbone(name: str) -> Backbone:
    return open_backbone(name, numerics=Numerics())

"""Where every method is put through the contract, and which of these places are quick tests.

Quick (`make test`): every method at home, with every promise; a few methods of each kind on every family and
in every scenario. Slow (`make test-slow`): the rest of the matrix of methods, families and scenarios, but for
those in which others stand for a method. A method more costs one quick case and three to eleven slow ones.
"""

from __future__ import annotations

from contract_lab import BACKBONES, SCENARIOS, Case, names

from methods.base import GradientMethod, Method, ParameterEfficient

# Of each kind of method (see `kind`) those that are quick tests on every family and in every scenario.
REPRESENTATIVES = {
    "gradient": ("full_finetune", "meat", "toast"),
    "parameter-efficient": ("bitfit", "lora"),
    "frozen": ("linear_probe",),
    "episodic": ("crosstransformer",),
}
# Options that change what is stored or how it is predicted.
VARIANTS = (
    ("meat", "task", {"ffn": "neuron", "self_loop": "true"}),
    ("meat", "task", {"ffn": "none", "evaluation": "dense", "blocks": "1"}),
    ("linear_probe", "task", {"solver": "exact"}),
    ("linear_probe", "class", {"solver": "exact"}),
    ("ncm", "class", {"metric": "cosine"}),
    ("joint", "class", {"probe": "true"}),
    ("knn", "class", {"k": "3", "metric": "euclidean"}),
    ("finetune_head", "class", {"head": "cosine", "optimizer": "sgd", "batch_size": "8"}),
    ("crosstransformer", "class", {"norm": "l2", "scale": "true"}),
    ("full_finetune", "class", {"backbone_lr_scale": "0.1", "label_smoothing": "0.1"}),
    ("lora", "task", {"per_task": "false", "dropout": "0.1"}),
    ("lora", "class", {"per_task": "true"}),
    ("adapter", "task", {"placement": "houlsby"}),
)


def kind(method: type[Method]) -> str:
    """What a method trains: the network, something inserted in it, or nothing of it; episodes in batches."""
    if issubclass(method, ParameterEfficient):
        return "parameter-efficient"
    if issubclass(method, GradientMethod):
        return "gradient"
    return "frozen" if method.score_episodes is Method.score_episodes else "episodic"


def matrix() -> list[Case]:
    """Every method in all its places, refused ones too; then the variants, on a ViT."""
    plain = [case for method in names() for case in places(method)]
    return plain + [Case(m, "tiny_vit", s, tuple(o.items())) for m, s, o in VARIANTS]


def places(method: str) -> list[Case]:
    """A method on every family and in every scenario; one for tests alone stays on a ViT."""
    families = BACKBONES[:1] if method.endswith(".py") else BACKBONES
    return [Case(method, backbone, scenario) for backbone in families for scenario in SCENARIOS]


def tried() -> list[Case]:
    """Of the matrix what is put through the contract."""
    return [case for case in matrix() if case.refusal is None and not stood_for(case)]


def stood_for(case: Case) -> bool:
    """Whether representatives stand for it: something inserted, at home neither by family nor by scenario.

    How it is inserted depends on the family, and what becomes of it from task to task on the scenario. Each
    is tried alone. What depends on both is in code that all of them share, and representatives are tried
    in every pair.
    """
    if (
        case.options
        or kind(case.cls) != "parameter-efficient"
        or case.method in REPRESENTATIVES[kind(case.cls)]
    ):
        return False
    at_home = home(case.method)
    return case.backbone != at_home.backbone and case.scenario != at_home.scenario


def home(method: str) -> Case:
    """The first place that it supports; of most methods a ViT with the task known."""
    return next(case for case in places(method) if case.refusal is None)


def quick(case: Case) -> bool:
    """Whether it is tried in the quick tests."""
    if case.options or case.method not in REPRESENTATIVES[kind(case.cls)]:
        return case == home(case.method)
    return case == home(case.method) or case.backbone == BACKBONES[0] or case.scenario == SCENARIOS[0]

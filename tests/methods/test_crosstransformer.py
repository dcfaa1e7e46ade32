"""CrossTransformers: the head's numbers and invariants, meta-training, and heads in files."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import few_shot_lab as lab
import msgspec
import numpy as np
import pytest
import torch
from few_shot_lab import Kept, SmallPool
from rounding import assert_same_to_rounding
from torch import Tensor
from torch.nn.functional import cross_entropy

from backbones.backbone import open_backbone
from backbones.numerics import Numerics
from backbones.training import TrainingError
from benchmarks.errors import DataError, RequestError
from benchmarks.store import Store
from methods.crosstransformer import CrossTransformer, meta_training
from methods.crosstransformer import head as heads_of
from methods.crosstransformer.episodes import EpisodeMaps
from methods.crosstransformer.head import ABSENT, CrossHead
from methods.crosstransformer.meta_training import Schedule, meta_train, normalise
from methods.crosstransformer.network import NetworkEpisodes
from methods.crosstransformer.views import Bank, FrozenEpisodes, PoolMaps
from methods.protonet import logits_of, sums_of

GOLDEN = Path(__file__).parents[1] / "golden" / "crosstransformer.npz"
FORMS = ("naive", "sdpa", "chunked")
LABELS = torch.tensor([1, 0, 2, 1, 1, 0])
FAMILIES = ("tiny_vit", "tiny_swin", "tiny_convnet")


def episode(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Support (6, 5, 7) of 2, 3 and 1 images, and queries (4, 6, 7), in float64."""
    source = torch.Generator().manual_seed(seed)
    support = torch.randn(6, 5, 7, generator=source, dtype=torch.float64)
    return support, torch.randn(4, 6, 7, generator=source, dtype=torch.float64)


def made(d_k: int = 4, d_v: int = 6, **options: object) -> CrossHead:
    head = CrossHead(7, d_k, d_v, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():  # so that attention is far from even
        head.key.weight.mul_(5)
    return head


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_the_reference_s_numbers(form, kind):
    with np.load(GOLDEN) as file:
        held = {name: torch.from_numpy(file[name]) for name in file}
    head = CrossHead(24, 8, 12).to(kind)
    with torch.no_grad():
        head.key.weight.copy_(held["w_qk"])
        head.value.weight.copy_(held["w_v"])
    support, query = (held[name].to(kind).flatten(2).transpose(1, 2) for name in ("support", "query"))
    logits = head(support, held["support_labels"], query, 3, form)
    assert apart(logits, held["logits"]) <= 1e-4 * float(held["logits"].abs().max())


@pytest.mark.parametrize("options", [{}, {"norm": "layer"}, {"norm": "l2", "scale": True}], ids=str)
@pytest.mark.parametrize(("d_k", "d_v"), [(4, 6), (6, 4), (5, 5)])
def test_the_forms_agree_in_values_and_gradients(monkeypatch, options, d_k, d_v):
    monkeypatch.setattr(heads_of, "FLOATS", 3 * 6 * d_v * 2)  # two queries at a time
    head = made(d_k, d_v, **options)
    found = {}
    for form in FORMS:
        support, query = (maps.requires_grad_() for maps in episode())
        logits = head(support, LABELS, query, 3, form)
        wanted = [support, query, *head.parameters()]
        found[form] = [logits, *torch.autograd.grad((logits * logits).sum(), wanted)]
    for form in FORMS[1:]:
        for ours, plain in zip(found[form], found["naive"], strict=True):
            assert apart(ours, plain) <= 1e-12 * max(1.0, float(plain.detach().abs().max()))


@pytest.mark.parametrize("form", FORMS)
class TestInvariants:
    def test_order_does_not_matter(self, form):
        head, (support, query) = made(), episode()
        logits = head(support, LABELS, query, 3, form)
        images, places, asked = torch.randperm(6), torch.randperm(5), torch.randperm(6)
        assert apart(head(support[images], LABELS[images], query, 3, form), logits) < 1e-12
        assert apart(head(support[:, places], LABELS, query, 3, form), logits) < 1e-12
        assert apart(head(support, LABELS, query[:, asked], 3, form), logits) < 1e-12

    def test_doubling_every_image_of_a_class_changes_nothing(self, form):
        head, (support, query) = made(), episode()
        again = torch.cat([support, support[LABELS == 1]])
        labels = torch.cat([LABELS, LABELS[LABELS == 1]])
        logits = head(support, LABELS, query, 3, form)
        assert apart(head(again, labels, query, 3, form), logits) < 1e-12

    def test_a_class_does_not_see_another(self, form):
        head, (support, query) = made(), episode()
        logits = head(support, LABELS, query, 3, form)
        without = head(support[LABELS != 2], LABELS[LABELS != 2], query, 3, form)
        assert apart(without[:, :2], logits[:, :2]) < 1e-12
        assert (without[:, 2] == ABSENT).all()

    def test_twice_the_values_are_four_times_the_logits(self, form):
        head, (support, query) = made(), episode()
        logits = head(support, LABELS, query, 3, form)
        with torch.no_grad():
            head.value.weight.mul_(2)
        assert apart(head(support, LABELS, query, 3, form), 4 * logits) < 1e-12

    def test_without_keys_it_is_a_prototypical_network_up_to_a_constant_for_each_query(self, form):
        head, (support, query) = made(), episode()
        with torch.no_grad():
            head.key.weight.zero_()
        ours = head(support, LABELS, query, 3, form)
        shown, asked = (head.value(maps).mean(1) for maps in (support, query))
        means = torch.stack([shown[cls == LABELS].mean(0) for cls in range(3)])
        difference = ours + torch.cdist(asked, means).square()
        assert apart(difference, difference[:, :1]) < 1e-12
        assert apart(logits_of(asked.detach(), sums_of(shown.detach(), LABELS, 3)), ours - difference) < 1e-5


def test_the_start_is_cut_at_two_deviations():
    head = CrossHead(192)
    for weight in (head.key.weight, head.value.weight):
        assert float(weight.detach().abs().max()) <= 0.2
        assert float(weight.detach().std()) == pytest.approx(0.088, abs=0.002)  # of 0.1 cut at +-0.2
    assert not torch.equal(head.key.weight, head.value.weight)


def test_a_learnt_scale_starts_at_one_and_multiplies_the_logits():
    plain, scaled, (support, query) = made(), made(scale=True), episode()
    logits = plain(support, LABELS, query, 3)
    assert torch.equal(scaled(support, LABELS, query, 3), logits)
    with torch.no_grad():
        scaled.log_scale.fill_(2.0)
    assert apart(scaled(support, LABELS, query, 3), logits * np.exp(2.0)) < 1e-10


@pytest.mark.parametrize("bad", [{"d_k": 0}, {"d_v": -1}, {"norm": "batch"}], ids=str)
def test_a_head_that_cannot_be_is_refused(bad):
    with pytest.raises(RequestError, match=next(iter(bad))):
        CrossHead(7, **bad)


def test_the_whole_gradient_is_divided_by_its_norm_after_the_l2_term():
    kernel, other = (torch.nn.Parameter(torch.randn(3, 4)) for _ in range(2))
    kernel.grad, other.grad = torch.randn(3, 4), torch.randn(3, 4)
    g = kernel.grad + 2 * 8.86e-5 * kernel.detach(), other.grad.clone()
    norm = (g[0].square().sum() + g[1].square().sum()).sqrt()
    normalise([kernel, other], [kernel])
    assert torch.allclose(kernel.grad, g[0] / norm)
    assert torch.allclose(other.grad, g[1] / norm)
    kernel.grad, other.grad = torch.full((3, 4), 1e-6), torch.zeros(3, 4)
    normalise([kernel, other], [])
    assert torch.allclose(kernel.grad, torch.full((3, 4), 1e-6 / 1e-5**0.5))  # not blown up to norm 1


def test_the_rate_falls_in_stairs():
    schedule = Schedule(100_000, 6e-4, 0.915, 2_000)
    assert schedule.rate(0) == schedule.rate(1_999) == 6e-4
    assert schedule.rate(2_000) == schedule.rate(3_999) == pytest.approx(6e-4 * 0.915)


class Planned:
    """Episodes whose validation accuracy follows a plan."""

    parameters = buffers = kernels = ()

    def __init__(self, right: list[int]) -> None:
        self.right, self.asked = right, 0

    def training(self, number: int) -> EpisodeMaps:
        support, query = (maps.float() for maps in episode(number))
        return EpisodeMaps(support, LABELS, query, torch.tensor([0, 1, 2, 0]), 3)

    def validation(self, number: int) -> EpisodeMaps:
        maps = self.training(0)
        turn, self.asked = self.asked // meta_training.VALIDATION_EPISODES, self.asked + 1
        # One support image of class 0 alone: all queries are taken for class 0.
        answers = torch.tensor([0] * self.right[turn] + [1] * (4 - self.right[turn]))
        return EpisodeMaps(maps.support[:1], torch.tensor([0]), maps.query, answers, 2)


def test_the_best_of_the_validated_weights_is_kept(monkeypatch):
    monkeypatch.setattr(meta_training, "VALIDATE_EVERY", 2)
    schedule, short = Schedule(6, 1e-2, 0.9, 2), Schedule(4, 1e-2, 0.9, 2)
    head, best = CrossHead(7, 4, 6), CrossHead(7, 4, 6)
    outcome = meta_train(head, Planned([1, 3, 2]), schedule, Kept(), lab.context().progress)
    meta_train(best, Planned([1, 3]), short, Kept(), lab.context().progress)
    assert (outcome.best, outcome.accuracy, outcome.updates) == (4, 0.75, 6)
    assert torch.equal(head.key.weight, best.key.weight)


def test_a_loss_that_is_not_finite_ends_it():
    head = CrossHead(7, 4, 6)
    with torch.no_grad():
        # Not the keys: of scores that are all NaN some of torch's fused kernels make zeros.
        head.value.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"update 1 of meta-training; a lower learning rate"):
        meta_train(head, Planned([0]), Schedule(3, 1e-2, 0.9, 2), Kept(), lab.context().progress)


def prepared(
    name: str = "tiny_vit",
    pool: SmallPool | None = None,
    journal: Kept | None = None,
    store: Store | None = None,
    **options: object,
) -> CrossTransformer:
    """Meta-trained for 6 updates on the small pool, or as the options say."""
    quick = {"updates": 6, "views": 2, "bank_images": 12, "head": "train", "d_k": 8, "d_v": 8} | options
    config = CrossTransformer.Config(**quick)  # type: ignore[arg-type]
    method = CrossTransformer(config, lab.network(name, store), lab.context(journal=journal))
    method.prepare(SmallPool(validation=SmallPool(4, content="validation")) if pool is None else pool)
    return method


@pytest.mark.parametrize(("name", "mode"), [("tiny_vit", "frozen"), ("tiny_convnet", "full")])
def test_a_killed_meta_training_ends_with_the_same_bits(monkeypatch, name, mode):
    monkeypatch.setattr(meta_training, "VALIDATE_EVERY", 2)
    monkeypatch.setattr(meta_training, "VALIDATION_EPISODES", 3)
    whole = prepared(name, mode=mode)
    journal = Kept(stop=3)
    with pytest.raises(KeyboardInterrupt):
        prepared(name, journal=journal, mode=mode)
    journal.stop = 0
    resumed = prepared(name, journal=journal, mode=mode)
    assert journal.saves == 3 + 2  # after updates 4 and 5, and not again after 1 to 3
    expected = whole.trained()
    assert expected.keys() == resumed.trained().keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in resumed.trained().items())
    timeless = [msgspec.structs.replace(method.card, seconds=0.0) for method in (whole, resumed)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_and_full_mode_agree_at_step_0(name):
    pool = SmallPool(validation=SmallPool(4, content="validation"))
    frozen = FrozenEpisodes(lab.network(name), pool, 0, 0.0, 1, 0, lab.context().progress)
    backbone = lab.network(name)
    backbone.freeze(except_=lambda _: True)
    full = NetworkEpisodes(backbone, pool, 0, 0.0)
    head = CrossHead(backbone.info.width)
    # A ConvNet trains with the moments of the support, so it is compared in evaluation.
    kinds = ["validation"] if name == "tiny_convnet" else ["training", "validation"]
    for kind in kinds:
        one, other = getattr(frozen, kind)(3), getattr(full, kind)(3)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.answers, other.answers)

        def logits(episodes: FrozenEpisodes | NetworkEpisodes, kind: str = kind) -> Tensor:
            maps = getattr(episodes, kind)(3)
            return head(maps.support, maps.labels, maps.query, maps.classes)

        assert_same_to_rounding(partial(logits, full), logits(frozen))


def test_full_mode_trains_the_network_and_freezes_it_again():
    method, plain = prepared("tiny_convnet", mode="full"), lab.network("tiny_convnet")
    weights = plain.net.state_dict()
    moved = [n for n, t in method.backbone.net.state_dict().items() if not torch.equal(t, weights[n])]
    assert any(name.endswith("conv1.weight") for name in moved)
    assert any(name.endswith("running_mean") for name in moved)
    assert not any(parameter.requires_grad for parameter in method.backbone.net.parameters())
    assert not method.backbone.pristine
    assert method.footprint().trainable == 0


def test_queries_are_normalised_with_the_support_s_moments_and_gradients_flow_through_them():
    from methods.crosstransformer.network import episode_passes

    layer, plain = torch.nn.BatchNorm2d(3).double(), torch.nn.BatchNorm2d(3).double()
    source = torch.Generator().manual_seed(0)
    support, query = (torch.randn(n, 3, 2, 2, generator=source, dtype=torch.float64) for n in (5, 4))
    support.requires_grad_()
    with episode_passes(torch.nn.Sequential(layer)) as passes:
        passes.support()
        out = layer(support)
        averages = layer.running_mean.clone(), layer.running_var.clone()
        passes.query()
        asked = layer(query)
    assert apart(out, plain(support)) < 1e-12
    assert apart(averages[0], plain.running_mean) < 1e-12
    assert apart(averages[1], plain.running_var) < 1e-12
    assert torch.equal(layer.running_mean, averages[0])
    assert torch.equal(layer.running_var, averages[1])
    mean, variance = support.mean((0, 2, 3)), support.var((0, 2, 3), correction=0)
    expected = (query - mean.view(1, 3, 1, 1)) / (variance.view(1, 3, 1, 1) + layer.eps).sqrt()
    assert apart(asked, expected) < 1e-12
    (gradient,) = torch.autograd.grad(asked.square().sum(), support)
    assert float(gradient.abs().max()) > 1e-3
    assert apart(layer(query), plain(query)) < 1e-12  # as it was, after the block


def test_the_pool_s_maps_are_found_by_table_and_row():
    pool, backbone = SmallPool(), lab.network()
    maps = PoolMaps(backbone, pool.images)
    for number in range(3):
        support = pool.episode(0, number).support
        assert np.array_equal(
            pool.images.inputs.pixels(maps.positions(support.inputs)), support.inputs.pixels()
        )
        assert_same_to_rounding(partial(backbone.tokens, support.inputs), maps(support.inputs))
    with pytest.raises(ValueError, match="not an image of its pool"):
        maps.positions(SmallPool(4, content="another").images.inputs)


def test_the_bank_is_of_the_size_asked_for_and_spread_over_the_classes(tmp_path):
    pool, backbone = SmallPool(), lab.network(store=Store(tmp_path))
    bank = Bank(backbone, pool, 15, 2, 0, lab.context().progress)
    assert bank.size == 15 * 2 * 2
    counts = np.bincount(pool.images.labels[bank.positions], minlength=6)
    assert sorted(set(counts.tolist())) == [2, 3]
    again = Bank(lab.network(), pool, 15, 2, 0, lab.context().progress)
    assert torch.equal(again.maps, bank.maps)  # from the store, and made anew
    outside = np.setdiff1d(np.arange(len(pool.images)), bank.positions)[:10]
    slots = bank.stand_ins(np.concatenate([bank.positions[:3], outside]), np.random.default_rng(0))
    assert slots[:3].tolist() == [0, 1, 2]
    used = slots[slots >= 0]
    assert len(set(used.tolist())) == len(used) == 13
    assert (bank.stand_ins(np.arange(20), np.random.default_rng(0)) >= 0).sum() == 15


def test_converted_episodes_come_from_the_bank_with_other_views_for_queries():
    pool = SmallPool()
    frozen = FrozenEpisodes(lab.network(), pool, 0, 1.0, 2, 0, lab.context().progress)
    maps, support = frozen.training(1), pool.episode(0, 1).support
    assert maps.classes == len(support) == len(maps.labels)
    assert maps.labels.tolist() == list(range(len(support)))
    assert len(maps.answers) == min(lab.QUERIES, 2) * lab.WAY
    for query, answer in zip(maps.query, maps.answers, strict=True):
        assert not torch.equal(query, maps.support[answer])


def test_what_meta_training_made_is_kept_and_read_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    first = prepared(store=store)
    monkeypatch.setattr("methods.crosstransformer.meta_train", None)  # would fail if it were called
    again = prepared(store=store)
    assert torch.equal(again.head.key.weight, first.head.key.weight)
    assert again.card == first.card
    assert first.card.settings["bank_images"] == 12
    with pytest.raises(TypeError):
        prepared(store=store, simclr=0.25)


def test_meta_training_helps():
    pool = SmallPool(validation=SmallPool(4, content="validation"))
    trained, plain = (
        prepared(pool=pool, updates=60, simclr=0.0, lr=5e-3, decay_every=1000),
        prepared(pool=pool, head="random"),
    )
    losses = []
    for method in (trained, plain):
        found = [pool.episode(0, number) for number in range(20)]
        logits = method.score_episodes([(lab.task_of(e), e.query.inputs) for e in found])
        wanted = [torch.from_numpy(e.query.labels) for e in found]
        losses.append(float(cross_entropy(torch.cat(logits), torch.cat(wanted))))
    assert losses[0] < 0.8 * losses[1]


def export(method: CrossTransformer, folder: Path) -> Path:
    pool = SmallPool(validation=SmallPool(4, content="validation"))  # what `prepared` takes
    return method.export(pool, folder, stream="small", terms="ours", commit="abc")


def test_an_exported_head_is_loaded_again(tmp_path):
    first = prepared()
    path = export(first, tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["backbone"], card["weights"]) == ("tiny_vit", first.backbone.weights)
    assert (card["settings"]["updates"], card["commit"], card["settings"]["simclr"]) == (6, "abc", 0.5)
    assert (card["stream"], card["terms"]) == ("small", "ours")
    again = prepared(head=str(path))
    assert torch.equal(again.head.value.weight, first.head.value.weight)


def test_a_head_that_ships_is_taken_where_nothing_else_is_asked_for(tmp_path, monkeypatch):
    path = export(prepared(d_k=128, d_v=128), tmp_path)
    monkeypatch.setattr(CrossTransformer, "shipped", tmp_path)
    method = CrossTransformer(CrossTransformer.Config(), lab.network(), lab.context())
    method.prepare(None)
    assert method.card.sha256 == json.loads(path.with_suffix(".json").read_text())["sha256"]
    with pytest.raises(RequestError, match="no pool"):
        CrossTransformer(CrossTransformer.Config(updates=3), lab.network(), lab.context()).prepare(None)


@pytest.mark.parametrize("simclr", [0.5, 0.0])
@pytest.mark.parametrize("name", ["vit_64", "swin_64", "resnet_64"])
def test_what_ships_fits_its_backbone_and_enters_the_key(name, simclr):
    backbone = open_backbone(name, numerics=Numerics())
    config = CrossTransformer.Config(simclr=simclr)
    (path,) = CrossTransformer.files(config, backbone)
    assert path.parent == CrossTransformer.shipped
    method = CrossTransformer(config, backbone.copy(), lab.context())
    method.prepare(None)
    assert (method.card.backbone, method.card.settings["simclr"]) == (name, simclr)
    assert method.card.terms
    assert method.card.settings["updates"] >= 2_000


class TestBadInput:
    def test_neither_pool_nor_head(self):
        method = CrossTransformer(CrossTransformer.Config(head="train"), lab.network(), lab.context())
        with pytest.raises(RequestError, match=r"has no pool .*head=PATH"):
            method.prepare(None)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(DataError, match=r"gone\.json"):
            prepared(head=str(tmp_path / "gone.safetensors"))

    def test_a_damaged_file(self, tmp_path):
        path = export(prepared(), tmp_path)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DataError, match=r"one of the two is damaged"):
            prepared(head=str(path))

    def test_a_card_that_is_none(self, tmp_path):
        path = export(prepared(), tmp_path)
        path.with_suffix(".json").write_text("{}")
        with pytest.raises(DataError, match=r"is not the card of tiny_vit\.safetensors"):
            prepared(head=str(path))

    def test_another_backbone(self, tmp_path):
        path = export(prepared(), tmp_path)
        with pytest.raises(RequestError, match=r"was trained on tiny_vit with weights"):
            prepared("tiny_swin", head=str(path))

    def test_another_width(self, tmp_path):
        path = export(prepared(), tmp_path)
        with pytest.raises(RequestError, match="say d_k=8, or take head=train"):
            prepared(head=str(path), d_k=16)

    def test_every_option_that_differs_is_named_at_once(self, tmp_path):
        path = export(prepared(), tmp_path)
        with pytest.raises(RequestError, match=r"d_k=16, norm=l2 are asked for; say d_k=8, norm=none, or"):
            prepared(head=str(path), d_k=16, norm="l2")

    def test_a_head_that_was_read_from_a_file_is_not_exported(self, tmp_path):
        path = export(prepared(), tmp_path)
        with pytest.raises(RequestError, match="take head=train"):
            export(prepared(head=str(path)), tmp_path)

    def test_an_untrained_head_is_not_exported(self, tmp_path):
        with pytest.raises(RequestError, match="was not trained"):
            export(prepared(head="random"), tmp_path)

    @pytest.mark.parametrize(
        "options",
        [
            {"d_k": 0},
            {"d_v": -2},
            {"simclr": 1.5},
            {"updates": -1},
            {"views": 0},
            {"bank_images": 1},
            {"lr": 0.0},
        ],
        ids=str,
    )
    def test_an_option_out_of_range(self, options):
        config = CrossTransformer.Config(**options)
        reason = CrossTransformer.supports(config, lab.context().info, lab.network().info)
        assert reason is not None
        assert f"{next(iter(options))}=" in reason

    def test_a_support_that_leaves_a_class_without_an_image(self):
        config, network = CrossTransformer.Config(head="random", max_support=2), lab.network()
        info = lab.context().info
        for protocol in ("continual", "transfer"):
            told = replace(info, protocol=protocol, episodes=0)
            reason = CrossTransformer.supports(config, told, network.info)
            assert reason == "max_support=2 is fewer than the 3 classes of a task; take 0 for all"
        method = CrossTransformer(config, network, lab.context())
        drawn = SmallPool().episode(0, 0)
        learnt = lab.task_of(drawn)
        for learn in (method.learn, lambda task: method.score_episodes([(task, drawn.query.inputs)])):
            with pytest.raises(RequestError, match=r"fewer than the 3 classes of an episode; take max_sup"):
                learn(learnt)


def test_a_source_of_more_classes_than_images_are_kept_is_no_hindrance():
    """Meta-Dataset's Omniglot has 659 test characters, of which an episode shows at most 50."""
    config, network = CrossTransformer.Config(), lab.network()
    source = lab.context(659).info
    assert CrossTransformer.supports(config, source, network.info) is None
    assert (
        CrossTransformer.supports(config, replace(source, protocol="continual", episodes=0), network.info)
        is not None
    )

"""The few-shot protocol: fresh for each episode, the same episodes for all, resumed where it stopped."""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from episode_lab import STREAM, blots, ready, sources
from PIL import Image

from backbones import features
from backbones.numerics import Numerics
from benchmarks.episodes.source import LabelledEpisodes
from benchmarks.errors import DataError, RequestError
from benchmarks.images import Labelled
from benchmarks.progress import Silent
from benchmarks.store import Store
from benchmarks.stream import Place
from benchmarks.streams.episodes import EpisodeStream
from carryover.cells.ready import Conditions, ReadyCell, Workshop
from carryover.cells.run import run_cell
from carryover.metrics.few_shot import few_shot_metrics
from carryover.plugins.catalogue import methods
from carryover.protocols import few_shot
from carryover.records.record import Cell, Record
from carryover.records.results import Results
from carryover.records.row import Row, unpack_hits
from methods.crosstransformer import CrossTransformer
from methods.protonet import ProtoNet


def outcome(cell: ReadyCell, root: Path, **settings) -> Record:
    record = run_cell(cell, Results(root), Silent(), workers=0, **settings)
    assert record.status == "ok", record.traceback
    return record


def stream(name: str = STREAM) -> EpisodeStream:
    from benchmarks.naming import parse, typed

    bare, parameters = parse(name)
    with sources():
        made = EpisodeStream(
            bare, typed(bare, "parameter", EpisodeStream.Parameters, parameters), Place(Store.default())
        )
        assert made.pool is None or made.pool  # opened while the sources are there
    return made


@pytest.mark.parametrize("method", sorted(set(methods()) - {"joint"}))
def test_every_method_learns_the_support_and_scores_the_queries(method, tmp_path):
    cell = ready(method, STREAM.replace("episodes=6", "episodes=2"))
    if cell.refusal:
        pytest.skip(cell.refusal)
    options = {"updates": 2} if method == "crosstransformer" else {}
    record = outcome(ready(method, cell.cell.stream, **options), tmp_path)
    assert [(row.step, row.task) for row in record.rows] == [(0, 0), (1, 0)]
    assert record.tasks == ("blots",)
    accuracies = [row.correct / row.n for row in record.rows]
    assert record.metrics["accuracy/blots"] == record.metrics["accuracy_mean"] == np.mean(accuracies)
    assert record.cost.stored_bits_per_task > 0


def test_joint_is_refused_since_an_episode_has_no_earlier_tasks():
    assert "stands alone" in ready("joint").refusal


def test_a_batch_of_episodes_scores_as_an_instance_for_each(tmp_path, monkeypatch):
    batched = outcome(ready("protonet"), tmp_path / "batched")
    monkeypatch.setattr(ProtoNet, "score_episodes", lambda self, episodes: None)
    alone = outcome(ready("protonet"), tmp_path / "alone")
    assert batched.rows == alone.rows


def test_all_methods_are_asked_about_the_same_queries_and_seeds_draw_others(tmp_path):
    prints = [
        outcome(ready(method, seed=seed), tmp_path).fingerprints
        for method, seed in (("protonet", 0), ("linear_probe", 0), ("protonet", 1))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_nothing_of_an_episode_is_left_in_the_next(tmp_path):
    """The last episode alone, in a run of its own, gives what it gave after five others."""
    record = outcome(ready("lora"), tmp_path / "all")
    cell = ready("lora")
    tasks, exam = cell.stream.open(0)

    class Last:
        info, pool = cell.stream.info, None

        @staticmethod
        def open(seed: int):
            return tasks[-1:], exam

    only = dataclasses.replace(cell, stream=Last())
    only.__dict__["key_parts"] = {"test": "last"}  # what is computed of a stream is not asked of this one
    assert outcome(only, tmp_path / "last").rows == record.rows[-1:]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("method", ["linear_probe", "knn"])
def test_a_run_that_was_stopped_or_failed_ends_with_the_same_rows(method, stop, tmp_path, monkeypatch):
    whole = outcome(ready(method), tmp_path / "whole")
    from carryover.protocols import few_shot

    monkeypatch.setattr(few_shot, "BATCH", 2)
    monkeypatch.setattr("carryover.protocols.journal.CellJournal.due", lambda self: True)
    scored, score = [], few_shot._score_group

    def interrupted(work, batched, group, done):
        if len(scored) == 2:
            raise stop
        scored.extend(group)
        return score(work, batched, group, done)

    with monkeypatch.context() as patch:
        patch.setattr(few_shot, "_score_group", interrupted)
        with pytest.raises(stop) if stop is KeyboardInterrupt else nullcontext():
            run_cell(ready(method), Results(tmp_path / "cut"), Silent(), workers=0)
    begun = len(scored)
    monkeypatch.setattr(few_shot, "_score_group", lambda *given: (scored.extend(given[2]), score(*given))[1])
    resumed = outcome(ready(method), tmp_path / "cut")
    assert resumed.outcome() == whole.outcome()
    assert (begun, len(scored)) == (2, 6), "an episode was scored twice, or none was left"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_episode_that_was_learnt_alone_is_not_learnt_again(stop, tmp_path, monkeypatch):
    """Stopped in the fourth of six, all in one group."""
    whole = outcome(ready("lora"), tmp_path / "whole")
    from carryover.protocols import few_shot

    monkeypatch.setattr("carryover.protocols.journal.CellJournal.due", lambda self: True)
    learnt, learn = [], few_shot._learnt

    def interrupted(work, task, *rest):
        if len(learnt) == 3:
            raise stop
        learnt.append(task.id)
        return learn(work, task, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(few_shot, "_learnt", interrupted)
        with pytest.raises(stop) if stop is KeyboardInterrupt else nullcontext():
            run_cell(ready("lora"), Results(tmp_path / "cut"), Silent(), workers=0)
    monkeypatch.setattr(
        few_shot, "_learnt", lambda work, task, *rest: (learnt.append(task.id), learn(work, task, *rest))[1]
    )
    resumed = outcome(ready("lora"), tmp_path / "cut")
    assert learnt == [0, 1, 2, 3, 4, 5]
    assert resumed.outcome() == whole.outcome()
    assert resumed.cost.passes == whole.cost.passes


def test_the_features_of_an_image_are_computed_once_whatever_episodes_it_is_in(tmp_path, monkeypatch):
    computed, fill = [], features._fill

    def counted(out, backbone, chunk, *rest):
        computed.append(len(chunk.rows))
        fill(out, backbone, chunk, *rest)

    monkeypatch.setattr(features, "_fill", counted)
    monkeypatch.setattr(few_shot, "macs_of", lambda *_: None)  # which computes an image anew, to count
    store = Store(tmp_path / "store")
    cell = ready("ncm", store=store)
    tasks, exam = cell.stream.open(0)
    occurring = {row for t in tasks for part in (t.train.inputs, exam.inputs(t.id)) for row in part.ids}
    outcome(cell, tmp_path)
    outcome(ready("linear_probe", store=store), tmp_path)
    assert sum(computed) == len(occurring)


def test_the_pool_shares_no_class_with_the_exam_or_its_own_validation():
    made = stream()
    tasks, _ = made.open(0)
    tested = {name for task in tasks for name in task.class_names}
    train = {name.partition("/")[2] for name in made.pool.images.class_names}
    valid = {name.partition("/")[2] for name in made.pool.validation.images.class_names}
    assert (len(train), len(valid)) == (18, 6)
    assert len(tested | train | valid) == len(tested) + len(train) + len(valid) <= 30


def test_what_a_method_may_prepare_on_is_part_of_the_key():
    other = ready("crosstransformer", f"{STREAM}&pool=others")
    assert ready("crosstransformer").key_parts["pool"] != other.key_parts["pool"]
    assert ready("crosstransformer").key_parts["stream"] == other.key_parts["stream"]  # the same episodes


def test_a_method_that_prepares_nothing_is_the_same_cell_whatever_the_pool():
    assert ready("protonet").key == ready("protonet", f"{STREAM}&pool=others").key


def test_pool_episodes_are_a_function_of_seed_and_number():
    first, second = stream().pool, stream().pool
    for number in (0, 7):
        a, b = first.episode(3, number), second.episode(3, number)
        assert (a.support.fingerprint, a.query.fingerprint) == (b.support.fingerprint, b.query.fingerprint)
    assert first.episode(3, 0).support.fingerprint != first.episode(4, 0).support.fingerprint
    assert first.fingerprint == second.fingerprint != stream(f"{STREAM}&pool=others").pool.fingerprint


def test_support_and_queries_share_no_image_and_keep_within_the_rule():
    tasks, exam = stream().open(0)
    assert len(tasks) == 6
    for task in tasks:
        support, queries = task.train.inputs.ids, exam.inputs(task.id).ids
        assert not set(support) & set(queries)
        assert (len(task.classes), len(task.val)) == (5, 0)
        assert (len(support) <= 12, len(queries) <= 15) == (True, True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("episodes:", "names no source"),
        ("episodes:blots+blots", "twice"),
        ("episodes:blots?classes=all&pool=blots", "cannot be both"),
        ("episodes:blots?episodes=0", "outside 1"),
        ("episodes:blots?size=0", "outside 1"),
        ("episodes:blots?per_class=1", "no query image"),
        ("episodes:blots?pool_per_class=1", "pool_per_class=1 leaves no query image"),
        ("episodes:blots?way=1", "way=1 is fewer than 2"),
        ("episodes:blots?support=3", "support=3 is fewer than way=50"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(name, said):
    with pytest.raises(RequestError, match=said):
        stream(name)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three folders of 25 classes: `birds`, its copy `copied`, and `fish` with other pixels."""
    rng = np.random.default_rng(0)
    for name in ("birds", "fish"):
        for number in range(25):
            (tmp_path / name / f"kind{number:02}").mkdir(parents=True)
            for image in range(5):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / f"kind{number:02}" / f"{image}.png")
    shutil.copytree(tmp_path / "birds", tmp_path / "deep" / "copied")
    return tmp_path / "birds", tmp_path / "deep" / "copied", tmp_path / "fish"


def over_folders(*paths: object, **parameters: object) -> str:
    typed = {"episodes": 3, "size": 8} | parameters
    names = "+".join(f"folder:{path}" for path in paths)
    return f"episodes:{names}?{'&'.join(f'{key}={value}' for key, value in typed.items())}"


def test_the_episodes_of_a_folder_are_those_of_its_images_wherever_it_lies(folders, monkeypatch):
    birds, copied, fish = folders
    monkeypatch.chdir(birds.parent)
    # Typed in three ways, and as one of two.
    for ways in ([(birds,), ("./birds",), (copied,)], [(birds, fish), (copied, "fish")]):
        names = [over_folders(*paths) for paths in ways]
        made = [Workshop(Place(Store.default()), Conditions(Numerics())) for _ in names]
        cells = [
            workshop.ready(Cell(method="ncm", stream=name, backbone="tiny_vit", seed=0, options={}))
            for workshop, name in zip(made, names, strict=True)
        ]
        first = cells[0]
        tasks, exam = first.stream.open(0)
        assert len(tasks) == 3 * len(ways[0])
        for cell in cells[1:]:
            assert (cell.key, cell.contract.hash) == (first.key, first.contract.hash)
            assert cell.stream.info.task_names == first.stream.info.task_names
            again, asked = cell.stream.open(0)
            assert [t.train.fingerprint for t in again] == [t.train.fingerprint for t in tasks]
            assert [asked.fingerprint(n) for n in asked.tasks] == [exam.fingerprint(n) for n in exam.tasks]
            ours, theirs = (pool.pool.episode(0, 1).support for pool in (first.stream, cell.stream))
            assert ours.fingerprint == theirs.fingerprint
        assert "birds" not in f"{first.stream.info.rule}{first.stream.info.class_names}"
    assert [f"{c.stream.info.notes[0]}".rpartition(" ")[2] for c in cells] == ["birds", "copied"]
    assert stream(over_folders(fish)).info.identity != stream(over_folders(birds)).info.identity


def test_a_folder_and_its_copy_are_one_source(folders):
    birds, copied, fish = folders
    with pytest.raises(RequestError, match=r"two sources are called folder .*birds.*copied"):
        stream(over_folders(birds, copied))
    with pytest.raises(RequestError, match=r"copied cannot be both pool and test"):
        stream(over_folders(birds, classes="all", pool=f"folder:{copied}"))
    assert stream(over_folders(birds, classes="all", pool=f"folder:{fish}")).pool is not None


def test_a_source_with_too_few_classes_to_split_says_how_to_use_all_of_them():
    place = Place(Store.default())
    with pytest.raises(DataError, match=r"2 of 10 classes.*classes=all"):
        EpisodeStream("episodes:digits", EpisodeStream.Parameters(), place)
    whole = EpisodeStream("episodes:digits", EpisodeStream.Parameters(classes="all", episodes=2), place)
    assert (whole.pool, len(whole.info.classes[0])) == (None, 10)


def test_the_interval_is_that_of_meta_dataset():
    rows = [Row.scored(n, 0, np.full(4, n % 2 == 0)) for n in range(600)]
    found = few_shot_metrics(rows, ("blots",))
    assert found["accuracy/blots"] == 0.5
    assert found["interval/blots"] == pytest.approx(0.0400, abs=5e-5)


def test_hits_say_which_queries_were_right(tmp_path):
    record = outcome(ready("protonet"), tmp_path)
    for row in record.rows:
        assert unpack_hits(row.hits, row.n).sum() == row.correct


def test_a_record_says_what_it_was_prepared_with_and_what_was_observed(tmp_path):
    records = {
        name: outcome(ready(name, **options), tmp_path)
        for name, options in {
            "crosstransformer": {"updates": 2, "views": 1, "bank_images": 20},
            "toast": {"pretune_epochs": 1},
            "knn": {},
        }.items()
    }
    assert len(records["crosstransformer"].prepared) == len(records["toast"].prepared) == 64
    assert records["knn"].prepared is None
    said = {name: " ".join(record.notes) for name, record in records.items()}
    assert "crosstransformer (" in said["crosstransformer"]
    views = "50% SimCLR episodes from 20 images x 2 views, supports of at most"
    assert f"head meta-trained with 2 updates ({views}" in said["crosstransformer"]
    assert "feedback pre-tuned for 1 epochs (" in said["toast"]
    assert all(") on the pool of episodes:blots" in said[name] for name in ("crosstransformer", "toast"))
    assert records["toast"].observations[0]["pretuned"] == 1
    assert records["crosstransformer"].observations[0]["support"] > 0
    learnt = sum(len(task.train) for task in stream().open(0)[0])
    assert records["knn"].cost.passes == records["crosstransformer"].cost.passes == learnt


def test_the_passes_over_episodes_are_not_kept_in_the_store(tmp_path):
    store = Store(tmp_path / "store")
    outcome(ready("toast", store=store, feedback="none"), tmp_path)
    once = {entry.key for entry in store.entries() if entry.kind == "features"}
    assert len(once) <= 1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("support=30", r"support=30 is fewer than way=50, .*; take support=50 or more, or way=30"),
        ("support=1&way=8", r"support=1 is fewer than way=8, .*; take support=8 or more$"),
        ("way=1", r"way=1 is fewer than 2, the fewest classes of an episode"),
        ("queries=0", r"^episodes:blots\?queries=0: most_queries of an episode is 0"),
    ],
)
def test_an_episode_that_cannot_be_is_told_in_the_words_that_are_typed(parameters: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        stream(f"episodes:blots?{parameters}")


def test_a_batch_keeps_the_same_images_of_a_support_as_an_instance_for_each(tmp_path, monkeypatch):
    """Where only some are kept: `max_support` is fewer than the images of most episodes."""
    kept: list[list[int]] = []
    choose = CrossTransformer._support

    def noted(self, task):
        kept.append(task.train.inputs.ids[choose(self, task)].tolist())
        return choose(self, task)

    monkeypatch.setattr(CrossTransformer, "_support", noted)
    options = {"head": "random", "max_support": 7}
    outcome(ready("crosstransformer", **options), tmp_path / "batched")
    batched = kept[:6]
    kept.clear()
    monkeypatch.setattr(CrossTransformer, "score_episodes", lambda self, episodes: None)
    outcome(ready("crosstransformer", **options), tmp_path / "alone")
    assert batched == kept[:6]
    assert 7 in map(len, batched)


def test_all_classes_are_not_offered_where_they_were_taken() -> None:
    whole = blots()
    first, names = whole.train.select(np.flatnonzero(whole.train.labels < 4)), whole.class_names[:4]
    few = dataclasses.replace(
        whole,
        train=Labelled(first.inputs, first.labels, names),
        test=Labelled(first.inputs, first.labels, names),
        class_names=names,
    )
    source = LabelledEpisodes("four", few, mirror=True, whole=True, per_class=None)
    with pytest.raises(DataError, match=r"^four has 4 classes, and an episode needs 5; take way=4"):
        source.classes("test")

"""Episodes from Meta-Dataset's records, in each of the three forms that a specification has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from record_files import jpeg, picture, write_records
from test_episode_specification import bi_level, flat, hierarchical

from benchmarks.episodes.recorded import RecordedEpisodes
from benchmarks.errors import DataError, RequestError
from benchmarks.store import Store
from benchmarks.stream import Place
from benchmarks.streams.episodes import EpisodeStream

SIDE = 12
SHAPES = ((12, 12), (20, 10), (9, 30))  # aspect ratios


def graph_to_test():
    """The graph of the hierarchical specification, as that of the test split."""
    spec = hierarchical()
    for part in ("split_subgraphs", "images_per_class"):
        spec[part]["TEST"], spec[part]["TRAIN"] = spec[part]["TRAIN"], spec[part]["TEST"]
    return spec


SPECS = {"traffic_sign": flat, "omniglot": bi_level, "ilsvrc_2012": graph_to_test}


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$CARRYOVER_DATA with three sources; image i of class c has the gradient 1000 c + i."""
    for name, make in SPECS.items():
        spec, folder = make(), tmp_path / "meta-dataset" / name
        folder.mkdir(parents=True)
        (folder / "dataset_spec.json").write_text(json.dumps(spec))
        counts = spec["images_per_class"]
        if name == "ilsvrc_2012":
            counts = {number: counts["TEST"][leaf] for number, leaf in spec["class_names"].items()}
        for cls, count in counts.items():
            encoded = [
                jpeg(picture(1000 * int(cls) + image, *SHAPES[image % 3]), "PNG") for image in range(count)
            ]
            write_records(folder / f"{cls}.tfrecords", encoded, int(cls))
    monkeypatch.setenv("CARRYOVER_DATA", str(tmp_path))
    return tmp_path / "meta-dataset"


def stream(sources: str, **parameters) -> EpisodeStream:
    names = "+".join(f"meta-dataset/{source}" for source in sources.split("+"))
    given = {"episodes": 3, "size": SIDE} | parameters
    return EpisodeStream(f"episodes:{names}", EpisodeStream.Parameters(**given), Place(Store.default()))


@pytest.mark.parametrize("source", SPECS)
def test_every_image_of_an_episode_is_one_of_its_class(converted, source):
    made = stream(source)
    tasks, exam = made.open(0)
    ids = {name: cls for cls, name in SPECS[source]()["class_names"].items()}
    for task in tasks:
        for part in (task.train.inputs, exam.inputs(task.id)):
            assert part.image_size == (SIDE, SIDE)
        labels = task.train.labels
        assert labels.min() == 0
        assert labels.max() == len(task.classes) - 1
        shown = task.train.inputs.pixels().astype(int)
        for label, name in enumerate(task.class_names):
            square = [picture(1000 * int(ids[name]) + image).astype(int) for image in range(50)]
            for image in shown[labels == label]:
                # Resized images of other shapes differ by a little from the square one of their gradient.
                assert min(np.abs(image - one).mean() for one in square) < 12


def test_sources_stand_side_by_side_and_say_which_classes_imagenet_has_seen(converted):
    made = stream("omniglot+ilsvrc_2012+traffic_sign")
    assert made.info.task_names == ("omniglot", "ilsvrc_2012", "traffic_sign")
    assert any("ilsvrc_2012" in note and "ImageNet-1k" in note for note in made.info.notes)
    tasks, exam = made.open(0)
    assert len(tasks) == len(exam.tasks) == 9
    assert "bilinear" in made.info.rule
    assert not made.info.mirror


def test_the_pool_is_of_the_training_classes_and_a_test_only_source_has_none(converted):
    pool = stream("omniglot+traffic_sign").pool
    assert {name.partition("/")[0] for name in pool.images.class_names} == {"omniglot"}
    assert len(pool.images.class_names) == 11
    assert len(pool.episode(0, 0).support.class_names) >= 5
    assert pool.validation is not None
    assert stream("traffic_sign").pool is None


def test_a_pool_decodes_no_more_images_than_it_is_said_to(converted):
    most = {
        name: len(stream("omniglot", pool_per_class=n).pool.images) for name, n in (("two", 2), ("five", 5))
    }
    classes = len(stream("omniglot").pool.images.class_names)
    assert most == {"two": 2 * classes, "five": 5 * classes}
    whole = stream("omniglot")
    limited = stream("omniglot", pool_per_class=2)
    assert limited.pool.fingerprint != whole.pool.fingerprint
    # What is tested is the same.
    assert [e.train.fingerprint for e in limited.open(0)[0]] == [
        e.train.fingerprint for e in whole.open(0)[0]
    ]


def test_a_pool_of_another_size_is_another_pool(converted):
    assert stream("omniglot").pool.fingerprint != stream("omniglot", size=SIDE + 2).pool.fingerprint


def test_two_sources_of_one_name_are_refused(converted, monkeypatch):
    labelled = RecordedEpisodes("omniglot", SIDE, Place(Store.default()))
    monkeypatch.setattr(EpisodeStream, "_labelled", lambda *_: labelled)  # what `omniglot` alone opens
    with pytest.raises(RequestError, match="two sources are called omniglot"):
        EpisodeStream(
            "episodes:omniglot+meta-dataset/omniglot",
            EpisodeStream.Parameters(size=SIDE),
            Place(Store.default()),
        )


def test_the_same_episodes_are_drawn_again(converted):
    def fingerprints(seed: int) -> list[str]:
        tasks, exam = stream("omniglot").open(seed)
        return [part for task in tasks for part in (task.train.fingerprint, exam.fingerprint(task.id))]

    assert fingerprints(0) == fingerprints(0) != fingerprints(1)


def test_a_missing_class_file_is_named(converted):
    for file in (converted / "traffic_sign").glob("*.tfrecords"):
        file.unlink()
    with pytest.raises(DataError, match=r"\.tfrecords is missing"):
        stream("traffic_sign").open(0)


def test_a_source_that_is_not_there_is_named_with_how_to_get_it(converted):
    with pytest.raises(DataError, match=r"aircraft is not there .*dataset_conversion"):
        stream("aircraft")


def test_other_images_under_one_specification_are_other_data(converted, tmp_path):
    """What the files hold counts, and not where they lie or when they were written."""
    before = stream("traffic_sign").info
    file = next(iter(sorted((converted / "traffic_sign").glob("*.tfrecords"))))
    kept = file.read_bytes()
    spec = flat()
    count = spec["images_per_class"][file.stem]
    write_records(file, [jpeg(picture(7 + i, 12, 12), "PNG") for i in range(count)], int(file.stem))
    assert stream("traffic_sign").info.data != before.data
    file.write_bytes(kept)
    assert stream("traffic_sign").info == before


def test_the_pool_is_known_by_its_images_too(converted):
    before = stream("omniglot").pool.fingerprint
    for cls, count in bi_level()["images_per_class"].items():
        encoded = [jpeg(picture(7 + image, *SHAPES[0]), "PNG") for image in range(count)]
        write_records(converted / "omniglot" / f"{cls}.tfrecords", encoded, int(cls))
    assert stream("omniglot").pool.fingerprint != before


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_class_file_that_is_missing_or_empty_is_found_before_anything_is_drawn(converted, damage):
    for file in (converted / "traffic_sign").glob("*.tfrecords"):
        damage(file)
        break
    with pytest.raises(
        DataError, match=rf"{file.name} is (missing|empty): the records of class .* of traffic_sign"
    ):
        stream("traffic_sign")

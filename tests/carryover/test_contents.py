"""What `plan` says of a stream before anything is spent, and that what is said can be written anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.errors import RequestError
from benchmarks.naming import typed
from benchmarks.store import Store
from benchmarks.stream import Place, StreamInfo
from benchmarks.streams.episodes import EpisodeStream
from benchmarks.streams.split import SplitStream
from benchmarks.streams.transfer import TransferStream
from carryover.cells.ready import check_classes
from carryover.cells.request import Request
from carryover.commands.contents import contents

fresh = np.random.default_rng(3)


def put(path: Path, count: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(fresh.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path / f"{number}.png")


def split(path: Path, **parameters: object) -> StreamInfo:
    chosen = typed("split", "parameter", SplitStream.Parameters, parameters)
    return SplitStream(f"split:folder:{path}", chosen, Place(Store(path.parent / "cache"))).info


def test_plan_names_classes_with_their_images_and_what_was_left_out(tmp_path: Path) -> None:
    for name, count in (("cat", 4), ("dog", 6)):
        put(tmp_path / "d/train" / name, count)
        put(tmp_path / "d/test" / name, 2)
    put(tmp_path / "d/train/cat/@eaDir", 3)
    said = "\n".join(contents(split(tmp_path / "d", tasks=1)))
    assert "1 task, 2 classes" in said
    assert "cat 4 + 2, dog 6 + 2" in said
    assert "note: d train: left out, in system folders (@eaDir): cat 3" in said


def test_many_classes_are_shortened_to_a_few_and_the_spread(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path / "d" / f"c{number:02}", 5 + (number == 7) * 5)
    lines = contents(split(tmp_path / "d", tasks=4))
    assert all(len(line) < 300 for line in lines)
    said = "\n".join(lines)
    assert "c00 4 + 1, c01 4 + 1" in said
    assert "..., c39 4 + 1" in said
    assert "training images of a class: 4 to 8, median 4" in said


def test_a_stream_of_one_class_is_refused_and_tasks_of_one_class_are_said(tmp_path: Path) -> None:
    put(tmp_path / "one/cat", 5)
    with pytest.raises(RequestError, match=r"one class, 'cat', so that every method is right"):
        check_classes(split(tmp_path / "one", tasks=1))
    chosen = TransferStream.Parameters(train=2, val=1, size=6)
    place = Place(Store(tmp_path / "cache"))
    with pytest.raises(RequestError, match=r"one has one class|one class"):
        check_classes(TransferStream(f"transfer:folder:{tmp_path}/one", chosen, place).info)
    for name in ("cat", "dog"):
        put(tmp_path / "two" / name, 5)
    info = split(tmp_path / "two", tasks=2)
    check_classes(info)
    assert "every method is right on tasks of one class" in "\n".join(info.remarks)
    assert not split(tmp_path / "two", tasks=2, scenario="class").remarks


def test_paths_with_signs_survive_the_command_line_of_a_worker(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    stream = f"split:folder:{tmp_path}/a,b?tasks=1"
    asked = {"method": "ncm", "stream": stream, "backbone": "tiny_vit", "seed": "0", "options": []}
    request = Request.typed({**asked, "no_reuse": False})
    assert request.streams == (stream,)
    words = request.words(request.cells()[0])
    again = Request.typed({**asked, "stream": words[words.index("--stream") + 1], "no_reuse": False})
    assert again.streams == (stream,)


def episodes(name: str, place: Place, **parameters: object) -> EpisodeStream:
    chosen = typed("episodes", "parameter", EpisodeStream.Parameters, {"size": 6, **parameters})
    return EpisodeStream(f"episodes:{name}", chosen, place)


def test_classes_that_a_data_set_splits_itself_are_taken_as_they_are(tmp_path: Path) -> None:
    place = Place(Store(tmp_path / "cache"))
    for part, names in (("train", "abcdef"), ("val", "ghijk"), ("test", "lmnop")):
        for name in names:
            put(tmp_path / "mini" / part / name, 4)
    stream = episodes(f"folder:{tmp_path}/mini", place, episodes=3)
    assert {name[-1] for name in stream.info.class_names} == set("lmnop")
    assert stream.pool is not None
    assert {name[-1] for name in stream.pool.images.class_names} == set("abcdef")
    assert stream.pool.validation is not None
    assert {name[-1] for name in stream.pool.validation.images.class_names} == set("ghijk")
    assert "classes split as the data set has them" in stream.info.rule
    assert "also in the pool" not in "".join(stream.info.notes)
    (tmp_path / "mini/test/l/again.png").write_bytes((tmp_path / "mini/train/a/0.png").read_bytes())
    again = episodes(f"folder:{tmp_path}/mini", place, episodes=3)
    assert "1 image of its test classes are also in the pool" in "".join(again.info.notes)
    with pytest.raises(RequestError, match="classes of its own"):
        episodes(f"folder:{tmp_path}/mini", place, classes="all")


def test_n_ways_and_k_shots_are_exactly_that(tmp_path: Path) -> None:
    place = Place(Store(tmp_path / "cache"))
    for name in ("defect", "none", "scratch"):
        put(tmp_path / "d" / name, 9)
    stream = episodes(f"folder:{tmp_path}/d", place, classes="all", way=2, shots=3, queries=4, episodes=20)
    tasks, exam = stream.open(0)
    for task in tasks:
        assert np.bincount(task.train.labels).tolist() == [3, 3]
        assert len(exam.inputs(task.id)) == 8
    assert {task.classes for task in tasks} > {(0, 1), (1, 2)}
    assert "2 ways and 3 shots" in stream.info.rule
    with pytest.raises(RequestError, match="fewer than shots=8 and queries=4 need"):
        episodes(f"folder:{tmp_path}/d", place, classes="all", way=2, shots=8, queries=4).open(0)
    with pytest.raises(RequestError, match="shots=1 needs the number of classes; add way="):
        episodes(f"folder:{tmp_path}/d", place, classes="all", shots=1)
    with pytest.raises(RequestError, match="has 3 classes, and an episode needs 5; take way=3"):
        episodes(f"folder:{tmp_path}/d", place, classes="all")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "shift-jis"])
def test_output_is_written_in_any_encoding(encoding: str) -> None:
    code = """
from carryover.commands.encoding import write_any_letter
write_any_letter()
print("a ± b \\u00b7 \\u00e9 \\u4e2d \\udce9 \\u2502")
"""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    said = done.stdout.decode(encoding)
    assert said.startswith("a ± b ·" if encoding == "utf-8" else "a +/- b |")
    assert ("é" in said) == (encoding in ("latin-1", "cp1252", "utf-8"))

"""The sizes of tasks: those of the field's streams, and every class in one of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import RequestError
from benchmarks.streams.sizes import said, task_sizes

# (classes, init, inc): sizes, as PILOT's data manager cuts them.
GOLDEN = {
    (196, 20, 20): [20] * 9 + [16],
    (196, 10, 10): [10] * 19 + [6],
    (47, 10, 10): [10] * 4 + [7],
    (100, 50, 10): [50] + [10] * 5,
    (43, 10, 10): [10] * 4 + [3],
    (196, 16, 20): [16] + [20] * 9,
    (50, 20, 10): [20, 10, 10, 10],
    (50, 7, 7): [7] * 7 + [1],
    (100, 60, 5): [60] + [5] * 8,
}


@pytest.mark.parametrize(("classes", "init", "inc"), GOLDEN)
def test_init_and_inc_give_the_sizes_of_the_field(classes: int, init: int, inc: int) -> None:
    wanted = tuple(GOLDEN[classes, init, inc])
    assert task_sizes("s", classes, init=init, inc=inc) == wanted
    assert task_sizes("s", classes, sizes="+".join(map(str, wanted))) == wanted
    if init == inc:
        assert task_sizes("s", classes, inc=inc) == wanted


@given(st.integers(1, 400), st.data())
def test_every_class_is_in_one_task_and_only_the_last_is_smaller(classes: int, data: st.DataObject) -> None:
    init, inc = (data.draw(st.integers(1, classes)) for _ in range(2))
    sizes = task_sizes("s", classes, init=init, inc=inc)
    assert sum(sizes) == classes
    assert sizes[0] == init
    assert all(size == inc for size in sizes[1:-1])
    assert len(sizes) == 1 or 1 <= sizes[-1] <= inc


@given(st.integers(1, 400), st.data())
def test_tasks_is_a_number_of_tasks_that_differ_by_one_class_at_most(
    classes: int, data: st.DataObject
) -> None:
    tasks = data.draw(st.integers(1, classes))
    sizes = task_sizes("s", classes, tasks=tasks)
    assert (sum(sizes), len(sizes)) == (classes, tasks)
    assert max(sizes) - min(sizes) <= 1
    assert list(sizes) == sorted(sizes, reverse=True)


def test_unequal_sizes_are_said() -> None:
    assert said(task_sizes("s", 196, inc=20)) == "196 classes in 10 tasks: 9 of 20, then 1 of 16"
    assert said(task_sizes("s", 67, tasks=10)) == "67 classes in 10 tasks: 7 of 7, then 3 of 6"
    assert said(task_sizes("s", 100, tasks=10)) == ""


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"init": 50}, "s: init=50 needs inc"),
        ({"init": 101, "inc": 10}, "s: init=101 lies outside 1 to 100"),
        ({"inc": 0}, "s: inc=0 lies outside 1 to 100"),
        ({"tasks": 10, "inc": 10}, "s: tasks=10 and inc=10 both say"),
        ({"tasks": 10, "init": 50, "inc": 10}, "s: tasks=10 and init and inc both say"),
        ({"sizes": "50+50", "inc": 10}, "s: sizes=50+50 and inc=10 both say"),
        ({"sizes": "50,50"}, "s: sizes=50,50 is no list of sizes"),
        ({"sizes": "50+0+50"}, "is no list of sizes"),
        ({"sizes": "50+40"}, "s: sizes=50+40 sum up to 90 classes, and there are 100"),
        ({"tasks": 101}, "s: tasks=101 lies outside 1 to 100"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(parameters: dict, text: str) -> None:
    with pytest.raises(RequestError) as error:
        task_sizes("s", 100, **parameters)
    assert text in str(error.value)

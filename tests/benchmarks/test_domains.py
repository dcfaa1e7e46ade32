"""Domain streams over several sources: one list of class ids, and nobody's images in another's task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.errors import DataError, RequestError
from benchmarks.naming import typed
from benchmarks.store import Store
from benchmarks.stream import Place
from benchmarks.streams.domains import DomainStream

CLASSES = ("The_tower", "cello", "cell_phone", "t-shirt", "zebra")
TRAIN, TEST = 6, 2


def draw(root: Path, domain: int, classes: tuple[str, ...], side: int = 8) -> None:
    """Images whose first pixel tells domain, class and split."""
    for split, count in (("train", TRAIN), ("test", TEST)):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.full((side, side, 3), number, np.uint8)
                pixels[0, 0] = domain, CLASSES.index(name), split == "test"
                Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("domains")
    draw(root / "clipart", 0, CLASSES)
    draw(root / "painting", 1, tuple(name for name in CLASSES if name != "t-shirt"))
    draw(root / "sketch", 2, CLASSES)
    draw(root / "large", 3, CLASSES, side=16)
    draw(root / "more" / "other", 4, CLASSES[:1])
    for split in ("train", "test"):
        (root / "more" / "other" / split / CLASSES[0]).rename(root / "more" / "other" / split / "elsewhere")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(Store(tmp_path_factory.mktemp("store")))


def stream(place: Place, root: Path, *names: str, **parameters: object) -> DomainStream:
    chosen = typed("domains", "parameter", DomainStream.Parameters, parameters)
    return DomainStream("domains:" + "+".join(f"folder:{root / name}" for name in names), chosen, place)


DOMAINS = ("clipart", "painting", "sketch")


def test_each_task_has_the_images_of_its_domain_under_one_list_of_ids(place: Place, root: Path) -> None:
    opened = stream(place, root, *DOMAINS)
    info = opened.info
    assert info.class_names == tuple(sorted(CLASSES))
    assert info.classes == (tuple(range(5)),) * 3
    assert info.task_names == DOMAINS
    tasks, exam = opened.open(0)
    for number, task in enumerate(tasks):
        for part, test in ((task.train, 0), (task.val, 0)):
            first = part.inputs.pixels()[:, 0, 0]
            assert (first[:, 0] == number).all()
            assert [part.class_names[label] for label in part.labels] == [CLASSES[cls] for cls in first[:, 1]]
            assert (first[:, 2] == test).all()
        first = exam.inputs(number).pixels()[:, 0, 0]
        assert (first[:, 0] == number).all()
        assert first[:, 2].all()
        ids = np.array([info.class_names.index(CLASSES[cls]) for cls in first[:, 1]])
        assert exam.score(number, ids).all()
        assert (len(task.train), len(task.val), len(first)) == info.sizes[number]


def test_a_class_that_a_domain_lacks_is_told(place: Place, root: Path) -> None:
    opened = stream(place, root, *DOMAINS)
    assert opened.info.notes == ("painting lacks 1 of the 5 classes: t-shirt",)
    tasks, _ = opened.open(0)
    lacking = opened.info.class_names.index("t-shirt")
    assert [lacking in task.train.labels for task in tasks] == [True, False, True]


def test_ids_are_those_of_a_given_list(place: Place, root: Path, tmp_path: Path) -> None:
    by_letters = sorted(CLASSES, key=lambda name: "".join(filter(str.isalpha, name)).lower())
    assert by_letters != sorted(CLASSES)
    (tmp_path / "classes.txt").write_text("\n".join(by_letters))
    given = stream(place, root, *DOMAINS, classes=f"@{tmp_path / 'classes.txt'}").info
    assert given.class_names == tuple(by_letters)
    assert given.identity != stream(place, root, *DOMAINS).info.identity


def test_domains_come_in_orders_of_their_own(place: Place, root: Path) -> None:
    natural = stream(place, root, *DOMAINS).info
    assert natural.order is not None
    assert natural.order.name == "natural"
    turned = stream(place, root, *DOMAINS, order="sketch+clipart+painting").info
    assert turned.task_names == ("sketch", "clipart", "painting")
    assert turned.name == natural.name
    assert turned.data == natural.data
    # Typed otherwise, natural means something else.
    assert stream(place, root, *reversed(DOMAINS)).info.data != natural.data


def test_no_image_of_val_is_trained_on_and_val_may_be_none(place: Place, root: Path) -> None:
    for task in stream(place, root, *DOMAINS).open(0)[0]:
        assert not set(task.train.inputs.ids.tolist()) & set(task.val.inputs.ids.tolist())
        assert len(task.val) == len(set(task.train.labels.tolist()))
    assert [size[1] for size in stream(place, root, *DOMAINS, val=0).info.sizes] == [0, 0, 0]


@pytest.mark.parametrize(
    ("names", "parameters", "said"),
    [
        (("clipart",), {}, "needs two sources or more"),
        (("clipart", "clipart"), {}, "two sources are called clipart"),
        (("clipart", "large"), {}, "images of clipart are 8x8, of large 16x16 pixels; add size=8"),
        (("clipart", "more/other"), {}, "clipart and other share no class by name"),
        (
            DOMAINS,
            {"classes": "cello+zebra"},
            "clipart has the class 'The_tower', which classes does not name",
        ),
        (DOMAINS, {"classes": "cello+cello"}, "classes names 'cello' twice"),
        (DOMAINS, {"order": "0+1"}, "1 of the 3 domains are missing, the first is 2 (sketch)"),
        (DOMAINS, {"val": 0.95}, "val=0.95 lies outside"),
    ],
)
def test_what_are_no_domains_is_refused(
    place: Place, root: Path, names: tuple[str, ...], parameters: dict, said: str
) -> None:
    with pytest.raises((RequestError, DataError)) as error:
        stream(place, root, *names, **parameters)
    assert said in str(error.value)

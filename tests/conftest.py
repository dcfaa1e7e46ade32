"""What every test stands on: one thread (or OMP_NUM_THREADS), no screen, stores that are never the user's."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported here or in a subprocess

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# Set when the tests are collected, so that nothing that runs earlier than a fixture sees the user's.
_STORES = tempfile.TemporaryDirectory(prefix="carryover-tests-")
os.environ["CARRYOVER_RESULTS"] = f"{_STORES.name}/results"
os.environ["CARRYOVER_CACHE"] = f"{_STORES.name}/cache"
os.environ.pop("COLUMNS", None)  # tables are as wide as they are in a pipe, whatever the user's screen

CLASSES = ("ash", "birch", "cedar", "dogwood", "elm", "fir")
TRAIN, TEST = 12, 5  # images of each class
_CPU, _STARTED = "cpu_seconds", pytest.StashKey[float]()


# Its cases share nothing with each other; all other files are sent to a worker as a whole.
CONTRACT = "tests/methods/test_contract.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file goes to one worker, so that what its fixtures make is made once.

    Not by the mark `xdist_group`: from pytest 9.2 on `--dist loadgroup` groups nothing, and does not say so
    (github.com/pytest-dev/pytest-xdist, issue 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return nodeid if file == CONTRACT else file

    return ByFile(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    item.stash[_STARTED] = _cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    if call.when == "teardown":
        item.user_properties.append((_CPU, _cpu_seconds() - item.stash[_STARTED]))
    return (yield)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Which files the CPU seconds went to, those of processes that tests started included.

    Not wall time: it says more of what else ran on the machine.
    """
    files: dict[str, list[float]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _CPU and report.when == "teardown":
                    files.setdefault(report.nodeid.partition("::")[0], []).append(value)
    if len(files) > 1:
        total = sum(map(sum, files.values()))
        terminalreporter.section("CPU seconds")
        terminalreporter.line(f"{total:8.1f} in all, without collecting")
        for file, spent in sorted(files.items(), key=lambda found: -sum(found[1]))[:10]:
            terminalreporter.line(f"{sum(spent):8.1f} {file}, {len(spent)} tests")


def _cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(os.times()[:4])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Bits differ between thread counts, and a cell that an earlier test ran here has set its own."""
    if torch := sys.modules.get("torch"):  # whoever needs it has imported it by now
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session", autouse=True)
def own_stores() -> Iterator[None]:
    yield
    _STORES.cleanup()


@pytest.fixture(scope="session")
def measured() -> None:
    """The kind of attention is as if measured, for this process and for those that it starts."""
    from backbones import numerics
    from benchmarks.store import Store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numerics, "measure_fused", lambda _: (1.0, 2.0))
        numerics.choose("cpu", Store.default(), threads=1)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 6 classes that can be told apart, with 12 training and 5 test images of 32x32 each."""
    root = tmp_path_factory.mktemp("pictures")
    draw_pictures(root)
    return root


def draw_pictures(root: Path) -> None:
    """Each class has a colour and a place of its own, under noise; the same bytes each time."""
    rng = np.random.default_rng(7)
    for label, name in enumerate(CLASSES):
        for split, count in (("train", TRAIN), ("test", TEST)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 90, (32, 32, 3))
                row, column = divmod(label, 3)
                image[16 * row : 16 * row + 16, 10 * column : 10 * column + 10, label % 3] += 150
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{number:02}.png")

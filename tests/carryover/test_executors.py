"""Cells in processes of their own: what a submission's file says, who may ask and stop, which key counts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from made_records import made
from tiny_cells import ready, stream_of, words

from backbones import numerics
from benchmarks.errors import RequestError
from benchmarks.progress import Silent
from carryover.cells.executors import local, process
from carryover.cells.executors.collect import forget_gone, recorded_otherwise, run_apart
from carryover.cells.executors.executor import Planned, Polled
from carryover.cells.executors.local import LocalProcesses
from carryover.cells.executors.process import Process
from carryover.cells.executors.submission import Submission, Submissions
from carryover.cells.ready import ReadyCell
from carryover.commands.cli import cli
from carryover.records.record import Record, encode
from carryover.records.results import Results

# Stands in for a worker: it says that it is there, waits for a file, and leaves a record where it has one.
WORKER = """
import pathlib, signal, sys, time
wait, record, root = sys.argv[1:4]
report = pathlib.Path(sys.argv[-1])
print("here", flush=True)
while wait and not pathlib.Path(wait).exists():
    time.sleep(0.02)
if record:
    from carryover.cells.executors.submission import report_record
    from carryover.records.record import decode
    from carryover.records.results import Results
    made = decode(pathlib.Path(record).read_bytes())
    Results(pathlib.Path(root)).write(made)
    report_record(report, made)
"""
PROGRAM = (sys.executable, "-P", "-c", WORKER)

# A process that submits workers who wait for `go`, two at a time, and looks after them.
SUBMITTER = f"""
import pathlib, signal, sys, time
from made_records import made
from carryover.cells.executors.executor import Planned
from carryover.cells.executors.local import LocalProcesses
from carryover.cells.executors.submission import Submissions
from carryover.records.results import Results
root = pathlib.Path(sys.argv[1])
executor = LocalProcesses(Results(root), jobs=2, program={PROGRAM!r})
cells = [made("ncm", seed) for seed in range(3)]
planned = [Planned(one.cell, one.key, lambda device: [str(root / "go"), "", ""]) for one in cells]
submission = executor.submit(planned, "carryover run --jobs 2")
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, interrupt)
try:
    while True:
        executor.poll(submission)
        time.sleep(0.05)
except KeyboardInterrupt:
    executor.stop(submission)
    Submissions(root).remove(submission)
"""


@pytest.fixture
def submitter(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that submitted three cells, of which two run."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, str(tmp_path)], env=os.environ | {"PYTHONPATH": paths}
    ) as started:
        wait_for(lambda: phases(tmp_path).count("running") == 2)
        yield started
        (tmp_path / "go").touch()
        started.kill()


def wait_for(true: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)


def only(root: Path) -> Submission:
    """The one submission below `root`."""
    found, broken = Submissions(root).all()
    assert broken == []
    (submission,) = found
    return submission


def seen(root: Path) -> Polled:
    """As a process sees it that has the file alone."""
    return LocalProcesses(Results(root)).poll(only(root))


def phases(root: Path) -> list[str]:
    return list(seen(root).phases) if list((root / "submissions").glob("*.json")) else []


def workers(submission: Submission) -> list[Process]:
    return [local._process(cell.handle) for cell in submission.cells if cell.handle]


def planned(records: Sequence[Record], *words: str) -> list[Planned]:
    return [Planned(record.cell, record.key, lambda device: words) for record in records]


# The file


def test_a_submission_says_what_waits_and_what_runs_where_with_which_log(tmp_path: Path) -> None:
    go = tmp_path / "go"
    executor = LocalProcesses(Results(tmp_path), devices=["cpu"], jobs=1, program=PROGRAM)
    cells = [made("ncm", seed) for seed in range(2)]
    submission = executor.submit(planned(cells, str(go), "", ""), "carryover run --method ncm")
    assert seen(tmp_path).phases == ("waiting", "waiting")
    executor.poll(submission)
    polled = seen(tmp_path)
    assert polled.phases == ("running", "waiting")
    assert polled.watched
    first = polled.submission.cells[0]
    assert (first.cell, first.key) == (cells[0].cell, cells[0].key)
    assert first.where == f"process {first.handle['pid']} on cpu"
    wait_for(lambda: (tmp_path / first.log).read_text() == "here\n")
    go.touch()
    wait_for(lambda: executor.poll(submission).phases == ("ended", "ended"))
    assert seen(tmp_path).phases == ("ended", "ended")
    assert only(tmp_path).cells[1].how == "its process ended with exit code 0"


def test_status_tells_what_runs_and_since_when(
    submitter: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Results(tmp_path).journal(made("ncm", 0).key)
    journal.mkdir(parents=True)
    (journal / "cell.txt").write_text(f"{made('ncm', 0).cell}\n")
    assert cli(["status", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "2 running, 1 waiting" in out
    assert f"ncm on split-cifar100, vit, seed 1: running since {time.strftime('%Y-')}" in out
    assert str(tmp_path / "logs") in out
    assert "interrupted" not in out, "the journal of a cell that runs is no other"
    assert "gone" not in out


def test_a_file_that_cannot_be_read_is_named_and_breaks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Submissions(tmp_path)
    executor = LocalProcesses(Results(tmp_path), program=PROGRAM)
    good = executor.submit(planned([made("ncm", 0)], "", "", ""), "carryover run")
    whole = msgspec.to_builtins(good)
    variants = {
        "newer": whole | {"schema": "2.0"},
        "none": {"schema": "1.0", "id": "none"},
        "more": whole | {"id": "more", "schema": "1.7", "walltime": 3},
        "elsewhere": whole | {"id": "elsewhere", "executor": "grid"},
        "handle": whole | {"id": "handle", "handle": {"job": "17"}},
        "renamed": whole | {"id": "../records"},
    }
    for name, value in variants.items():
        (files.folder / f"{name}.json").write_bytes(msgspec.json.encode(value))
    (files.folder / "torn.json").write_bytes(msgspec.json.encode(whole)[:50])
    (files.folder / "folder.json").mkdir()
    assert cli(["status", "--results", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert f"ignored: {files.folder / 'newer.json'}: it has schema 2.0, and this version of carryover" in err
    for name, why in (
        ("none", "it is no submission: "),
        ("torn", "its JSON is broken: "),
        ("renamed", "it says that it is submission '../records'"),
        ("folder", "[Errno "),
    ):
        assert f"{name}.json: {why}" in err
    assert "this version of carryover has no executor 'grid' to ask" in out
    assert {one.id for one in files.all()[0]} == {good.id, "more", "elsewhere", "handle"}
    forget_gone(Results(tmp_path), [made("ncm", 0).cell])
    assert {one.id for one in files.all()[0]} == {good.id, "more", "elsewhere"}, "whose submitter is there"


def test_what_runs_on_another_machine_is_unknown_here_and_cannot_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = LocalProcesses(Results(tmp_path), program=PROGRAM)
    submission = executor.submit(planned([made("ncm", 0)], "", "", ""), "carryover run")
    submission.host = "node17"
    Submissions(tmp_path).write(submission)
    assert seen(tmp_path).phases == ("unknown",)
    with pytest.raises(
        RequestError, match=f"runs on node17, and this is {socket.gethostname()}; stop it there"
    ):
        LocalProcesses(Results(tmp_path)).stop(only(tmp_path))
    assert cli(["status", "--results", str(tmp_path)]) == 0
    assert "can be asked on node17 alone" in capsys.readouterr().out
    forget_gone(Results(tmp_path), [made("ncm", 0).cell])
    assert only(tmp_path).id == submission.id


def test_two_submissions_of_one_cell_at_once_have_files_and_logs_of_their_own(tmp_path: Path) -> None:
    go, cell = tmp_path / "go", made("ncm", 0)
    executors = [LocalProcesses(Results(tmp_path), program=PROGRAM) for _ in range(2)]
    both = [one.submit(planned([cell], str(go), "", ""), "carryover run") for one in executors]
    for executor, submission in zip(executors, both, strict=True):
        executor.poll(submission)
    found, _ = Submissions(tmp_path).all()
    assert {one.id for one in found} == {one.id for one in both}
    logs = [tmp_path / one.cells[0].log for one in both]
    assert logs[0] == tmp_path / "logs" / f"{cell.key}.log"
    assert logs[1] != logs[0]
    for log in logs:
        wait_for(lambda log=log: log.exists() and log.read_text() == "here\n")
    executors[0].stop(both[0])
    Submissions(tmp_path).remove(both[0])
    assert seen(tmp_path).phases == ("running",)
    go.touch()
    wait_for(lambda: executors[1].poll(both[1]).phases == ("ended",))
    again = executors[0].submit(planned([cell], "", "", ""), "carryover run")
    assert tmp_path / again.cells[0].log == logs[0], "free again"


# Who submitted is killed


def test_when_the_submitter_is_killed_its_workers_go_on_and_status_says_so(
    submitter: subprocess.Popen[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submitter.kill()
    submitter.wait()
    polled = seen(tmp_path)
    assert polled.phases == ("running", "running", "lost")
    assert not polled.watched
    assert cli(["status", "--results", str(tmp_path)]) == 0
    said = (
        "The process that submitted it is gone: 2 still running, up to the record, "
        "1 ended without a record or never started. Go on with:\n    carryover run --jobs 2\n"
    )
    assert said in capsys.readouterr().out
    every = [cell.cell for cell in polled.submission.cells]
    forget_gone(Results(tmp_path), every)
    assert only(tmp_path).id == polled.submission.id, "two still run"
    (tmp_path / "go").touch()
    wait_for(lambda: seen(tmp_path).phases == ("lost", "lost", "lost"))
    assert cli(["status", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "is gone: 3 ended without a record or never started. Go on with:" in out
    Results(tmp_path).write(made("ncm", 0))
    forget_gone(Results(tmp_path), every[1:2])
    assert only(tmp_path).id == polled.submission.id, "the third is nowhere recorded"
    forget_gone(Results(tmp_path), every[1:])
    assert Submissions(tmp_path).all() == ([], [])
    assert list((tmp_path / "submissions").iterdir()) == []


def test_a_number_that_was_given_to_another_process_is_not_taken_for_ours(
    submitter: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    submission = only(tmp_path)
    submitter.kill()
    submitter.wait()
    ours = workers(submission)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        submission.handle["pid"] = submission.cells[0].handle["pid"] = stranger.pid
        Submissions(tmp_path).write(submission)
        polled = seen(tmp_path)
        assert not polled.watched
        assert polled.phases == ("lost", "running", "lost")
        LocalProcesses(Results(tmp_path)).stop(only(tmp_path))
        assert seen(tmp_path).phases == ("lost", "lost", "lost")
        assert stranger.poll() is None
        assert ours[0].alive(), "it is not in the file any more"
        process.stop([ours[0], Process.of(stranger.pid)])
        assert stranger.wait() == -signal.SIGTERM


@pytest.mark.skipif(not shutil.which("ps"), reason="there is no ps")
def test_where_there_is_no_proc_ps_tells_the_same() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as started:
        born = process._born_by_ps(started.pid)
        assert born
        assert str(time.localtime().tm_year) in born
        assert process._born_by_ps(started.pid) == born
        started.kill()
        wait_for(lambda: process._born_by_ps(started.pid) is None)  # it has yet to be waited for
    assert process._born_by_ps(started.pid) is None


# Stopped


def test_another_process_stops_all_of_it_through_the_file(
    submitter: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    submission = only(tmp_path)
    running = workers(submission)
    assert [one.alive() for one in running] == [True, True]
    LocalProcesses(Results(tmp_path)).stop(submission)
    assert [one.alive() for one in running] == [False, False]
    assert submitter.wait(10) == 0
    assert Submissions(tmp_path).all() == ([], []), "its submitter was there to clear up"


def test_the_workers_of_a_killed_submitter_are_stopped_through_the_file(
    submitter: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    submitter.kill()
    submitter.wait()
    outdated = only(tmp_path)
    outdated.cells[1].handle = {}  # as if it had been read before that one was started
    LocalProcesses(Results(tmp_path)).stop(outdated)
    assert not any(one.alive() for one in workers(only(tmp_path)))
    assert seen(tmp_path).phases == ("lost", "lost", "lost")


def test_who_does_not_listen_is_killed_in_the_end() -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        process.stop([Process.of(started.pid)], grace=0.2)
        assert started.wait() == -signal.SIGKILL


# Collected


@pytest.fixture(scope="module")
def cells() -> list[ReadyCell]:
    return [ready("ncm", "split-digits", "tiny_vit", seed, {}) for seed in range(2)]


def run(
    root: Path,
    cells: Sequence[ReadyCell],
    words: Callable[[ReadyCell], Sequence[str]],
    report: Callable[[ReadyCell, Record], None] = lambda cell, record: None,
    program: Sequence[str] = PROGRAM,
    **settings: object,
) -> list[Record]:
    results = Results(root)
    executor = LocalProcesses(results, program=program, **settings)  # type: ignore[arg-type]
    return run_apart(
        cells,
        executor,
        lambda cell, device: words(cell),
        results,
        Silent(),
        command="carryover run",
        report=report,
    )


def of(cell: ReadyCell, **fields: object) -> Record:
    """A made-up record of a real cell."""
    record = made("ncm", cell.cell.seed, key=cell.key)
    known = {"cell": cell.cell, "key_parts": cell.key_parts, "contract": dict(cell.contract)}
    packages = msgspec.structs.replace(record.env, packages=cell.code.packages)
    return msgspec.structs.replace(record, **(known | {"env": packages} | fields))


def leaving(root: Path, records: Sequence[Record]) -> Callable[[ReadyCell], list[str]]:
    """Words of workers that leave these records, by their seeds."""
    for record in records:
        (root / f"{record.cell.seed}").write_bytes(encode(record))
    return lambda cell: ["", str(root / f"{cell.cell.seed}"), str(root)]


def test_what_a_worker_recorded_under_another_key_is_taken_and_said(
    cells: list[ReadyCell], tmp_path: Path
) -> None:
    records = []
    for cell in cells:
        planned = of(cell)
        parts = cell.key_parts | {"numerics": "another", "packages": "others"}
        env = msgspec.structs.replace(
            planned.env, threads=3, packages=planned.env.packages | {"timm": "0.0.1"}
        )
        records.append(of(cell, key=f"{cell.cell.seed:064x}", key_parts=parts, env=env))
    found = run(tmp_path, cells, leaving(tmp_path, records))
    assert found == records
    assert Submissions(tmp_path).all() == ([], [])
    assert {record.status for record in Results(tmp_path).all()[0]} == {"ok"}, (
        "nothing is said to have failed"
    )
    timm = cells[0].code.packages["timm"]
    assert recorded_otherwise(cells, found) == (
        f"{cells[0].cell} and 1 more: recorded under another key than planned, which differs in packages, "
        f"numerics (threads 3, not 1; timm 0.0.1, not {timm})"
    )
    assert recorded_otherwise(cells, [of(cell) for cell in cells]) == ""


def test_the_failure_that_a_worker_recorded_under_another_key_is_taken_too(
    cells: list[ReadyCell], tmp_path: Path
) -> None:
    failed = of(cells[0], key="1" * 64, status="failed", reason="ValueError: no", rows=(), metrics={})
    assert run(tmp_path, cells[:1], leaving(tmp_path, [failed])) == [failed]


def test_a_worker_that_was_killed_after_its_record_and_before_its_report_succeeded(
    cells: list[ReadyCell], tmp_path: Path
) -> None:
    silent = (
        *PROGRAM[:-1],
        WORKER.replace("report_record(report, made)", "import os; os.kill(os.getpid(), 9)"),
    )
    assert run(tmp_path, cells[:1], leaving(tmp_path, [of(cells[0])]), program=silent) == [of(cells[0])]


def test_how_a_worker_ended_without_a_record_is_recorded(cells: list[ReadyCell], tmp_path: Path) -> None:
    quits = (
        sys.executable,
        "-c",
        "import os, sys; os.kill(os.getpid(), 9) if sys.argv[1] == '9' else sys.exit(3)",
    )
    records = run(tmp_path, cells, lambda cell: ["9" if cell.cell.seed else "3"], program=quits)
    log = tmp_path / "logs" / f"{cells[0].key}.log"
    assert [record.status for record in records] == ["failed", "failed"]
    assert records[0].reason == f"its process ended with exit code 3; see {log}"
    assert "its process was killed by signal 9 (out of memory?); see " in records[1].reason
    assert {record.key for record in Results(tmp_path).all()[0]} == {cell.key for cell in cells}


def test_a_worker_is_stopped_after_its_time_and_the_next_one_starts(
    cells: list[ReadyCell], tmp_path: Path
) -> None:
    sleeps = (sys.executable, "-c", "import time; time.sleep(60)")
    records = run(tmp_path, cells, lambda cell: [], program=sleeps, timeout=0.5)
    assert [record.status for record in records] == ["timeout", "timeout"]
    said = "stopped after 0.5 s; its journal is kept, the same command goes on with it"
    assert [record.reason for record in records] == [said, said]


def test_an_interruption_stops_all_and_forgets_the_submission(cells: list[ReadyCell], tmp_path: Path) -> None:
    running: list[Process] = []

    def interrupt(cell: ReadyCell, record: Record) -> None:
        running.extend(workers(only(tmp_path)))
        raise KeyboardInterrupt

    record = str(tmp_path / "record")
    (tmp_path / "record").write_bytes(encode(of(cells[0])))
    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path,
            cells,
            lambda cell: [str(tmp_path / "never"), "", ""] if cell.cell.seed else ["", record, str(tmp_path)],
            interrupt,
            jobs=2,
        )
    assert len(running) == 2
    assert not any(one.alive() for one in running)
    assert Submissions(tmp_path).all() == ([], [])


def test_where_a_cell_is_computed_is_in_no_key(cells: list[ReadyCell]) -> None:
    assert not [name for name in cells[0].code.modules if name.startswith("carryover.cells.executors")]


# In earnest


@pytest.mark.slow
def test_a_worker_with_other_threads_has_the_record_of_its_own_key(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = min(numerics.physical_cores(), numerics.MAX_THREADS)
    here = 1 if there > 1 else 2
    monkeypatch.setattr(numerics, "physical_cores", lambda: here)
    command = words("ncm", stream_of(pictures), tmp_path, "--seed", "0,1", "--jobs", "2")
    place = command.index("--threads")
    command = command[:place] + command[place + 2 :]
    for _ in range(2):  # the second time the workers find their records
        assert cli(command) == 0
        out, err = capsys.readouterr()
        assert out.count("ncm *") == 1
        assert "ncm on" in err
        assert (
            "seed 0 and 1 more: recorded under another key than planned, which differs in numerics "
            f"(threads {there}, not {here})" in err
        )
        records, broken = Results(tmp_path).all()
        assert broken == []
        assert [(record.status, record.env.threads) for record in records] == [("ok", there)] * 2
    assert Submissions(tmp_path).all() == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_workers_in_earnest_are_stopped_with_their_parent_or_found_again(
    name: str, measured: None, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words("meat", stream_of(pictures), tmp_path, "-o", "epochs=5000", "--seed", "0,1")
    command += ["--jobs", "2"]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "carryover", *command], stderr=subprocess.PIPE, text=True
    ) as parent:
        wait_for(lambda: len(list((tmp_path / "journal").glob("*/cell.txt"))) == 2, seconds=240)
        submission = only(tmp_path)
        running = workers(submission)
        parent.send_signal(getattr(signal, name))
        _, said = parent.communicate()
    if name == "SIGKILL":
        assert parent.returncode == -signal.SIGKILL
        assert [one.alive() for one in running] == [True, True]
        assert cli(["status", "--results", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert "2 still running, up to the record" in out
        assert submission.command in out
        LocalProcesses(Results(tmp_path)).stop(only(tmp_path))
        assert seen(tmp_path).phases == ("lost", "lost")
        said = submission.command
    else:
        assert parent.returncode == 130
        assert Submissions(tmp_path).all() == ([], [])
    assert not any(one.alive() for one in running)
    assert "--seed 0,1" in said.splitlines()[-1]
    assert "--jobs 2" in said.splitlines()[-1]
    for cell in submission.cells:
        assert "interrupted; finished work is kept" in (tmp_path / cell.log).read_text()
        assert (Results(tmp_path).journal(cell.key) / "cell.txt").exists()

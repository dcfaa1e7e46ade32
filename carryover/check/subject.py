"""A method with its options on a tiny backbone and stream, as the promises test it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from backbones.backbone import Backbone
from benchmarks.images import Pixels
from benchmarks.progress import Silent
from benchmarks.seeds import Seeds
from benchmarks.stream import Stream, StreamInfo
from carryover.cells.key import protocol_module
from carryover.check.lesson import Lesson, lesson_of
from carryover.check.surroundings import ambient
from carryover.metrics.kinds import kind_of
from carryover.protocols.continual import state_digest
from carryover.protocols.journal import Done, serialise
from carryover.protocols.work import Result, Work, hand_over
from methods.base import Context, Method


@dataclass(frozen=True, eq=False)
class Learnt:
    """A method after all tasks of its lesson, with what was measured after each of them.

    states: as safetensors bytes, or the error if there are none; logits: of every task that could be
    predicted; digests: of the state that these depend on; passes: of each `learn`.
    """

    method: Method
    states: list[bytes | Exception] = field(default_factory=list)
    logits: list[dict[int, Tensor]] = field(default_factory=list)
    digests: list[dict[int, str]] = field(default_factory=list)
    observations: list[dict[str, float]] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)

    def state(self, step: int) -> bytes:
        """The state after a task; raises the error if it could not be stored."""
        found = self.states[step]
        if isinstance(found, Exception):
            raise found
        return found


@dataclass(frozen=True, eq=False)
class Subject:
    """
    claims: whether it claims to forget nothing; None: if its instances say so by `per_task`
    place: backbone and stream, in words
    """

    name: str
    cls: type[Method]
    config: Any
    backbone: Backbone
    stream: Stream
    place: str = ""
    claims: bool | None = None

    @property
    def refusal(self) -> str | None:
        """Why the class does not support this backbone and stream; None if it does."""
        return self.cls.supports(self.config, self.stream.info, self.backbone.info)

    @property
    def forgets_nothing(self) -> bool:
        """Whether it claims to predict an old task, if the task is known, from what was stored for it."""
        if self.lesson.info.scenario != "task":
            return False
        said = self.learnt.method.per_task
        return bool(said if self.claims is None else self.claims)

    @cached_property
    def lesson(self) -> Lesson:
        """The tasks of the stream, as one instance learns them."""
        return lesson_of(self.stream)

    def make(
        self,
        *,
        eval_batch: int = 256,
        workers: int = 0,
        backbone: Backbone | None = None,
        config: Any = None,
        info: StreamInfo | None = None,
        tables: dict[str, Pixels] | None = None,
        part: str = "",
    ) -> Method:
        """A fresh instance on a copy of the backbone (or on `backbone`), with access to all image tables."""
        info = info or self.lesson.info
        if tables is None:
            tables = {}
            for task in self.lesson.tasks:
                hand_over(task, tables)
        context = Context(
            info,
            Seeds(self.stream.info.identity + part, 0, self.name),
            tables=tables,
            eval_batch=eval_batch,
            workers=workers,
        )
        torch.manual_seed(context.seeds.own("modules"))
        return self.cls(config or self.config, backbone or self.backbone.copy(), context)

    def prepared(self, **settings: Any) -> Method:
        """`make`, after `prepare` on the stream's pool."""
        method = self.make(**settings)
        method.prepare(self.stream.pool)
        return method

    def learn_all(self, method: Method, lesson: Lesson | None = None) -> Learnt:
        """Learn every task of the lesson and predict after each, as a protocol does."""
        lesson = lesson or self.lesson
        learnt = Learnt(method)
        for task in lesson.tasks:
            method.learn(task)
            learnt.passes.append(method.passes)
            learnt.observations.append(method.observations())
            try:
                learnt.states.append(serialise(method.state()))
            except Exception as error:  # the promise "state" reports it
                learnt.states.append(error)
            learnt.logits.append(self.logits(method, lesson))
            digests = {}
            if isinstance(learnt.states[-1], bytes):
                digests = {t: state_digest(method.state_for(lesson.known(t))) for t in learnt.logits[-1]}
            learnt.digests.append(digests)
        return learnt

    def logits(self, method: Method, lesson: Lesson | None = None) -> dict[int, Tensor]:
        """Logits of the test images of every task that can be predicted now."""
        lesson = lesson or self.lesson
        domain = lesson.info.scenario == "domain"
        tasks = lesson.exam.tasks if domain else [t for t in method.learnt if t in lesson.exam.tasks]
        return {task: method.predict(lesson.exam.inputs(task), lesson.known(task)) for task in tasks}

    @cached_property
    def learnt(self) -> Learnt:
        """`learn_all`, run once for all promises, which leave the result as it is."""
        with ambient(0):
            return self.learn_all(self.prepared())

    def restored(self, state: bytes, **settings: Any) -> Method:
        """A fresh instance that restored `state`."""
        method = self.prepared(**settings)
        tensors = safetensors.torch.load(state)
        method.restore({name: tensors[name] for name in sorted(tensors)})  # a file has them in any order
        return method

    @cached_property
    def first_cell(self) -> Result:
        """`cell`, run once for all promises."""
        return self.cell()[0]

    def metrics(self, result: Result) -> dict[str, float]:
        """The metrics of the rows of a cell."""
        info = self.stream.info
        return kind_of(info.protocol).metrics(result.rows, info.task_names, info.groups)

    def cell(self, *, workers: int = 0, reuse: bool = True) -> tuple[Result, list[bytes]]:
        """The result of the protocol, and the state after each task of a continual stream."""
        tables: dict[str, Pixels] = {}

        def make(info: StreamInfo, *, part: str = "", config: Any = None, journaled: bool = True) -> Method:
            return self.make(info=info, part=part, config=config, workers=workers, tables=tables)

        tasks, exam = self.stream.open(0)
        journal = Watch()
        work = Work(
            make=make,
            backbone=self.backbone,
            info=self.stream.info,
            tasks=tasks,
            exam=exam,
            pool=self.stream.pool,
            journal=journal,  # type: ignore[arg-type]
            progress=Silent(),
            tables=tables,
            reuse=reuse,
        )
        with ambient(0):
            result = protocol_module(self.stream.info.protocol).run(work)
        return result, journal.written


class Watch:
    """A journal that keeps the state after every task, as bytes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.states = None

    def resume(self) -> tuple[Done, None]:
        return Done(), None

    def begin(self) -> None:
        return

    def spent(self) -> float:
        return 0.0

    def due(self) -> bool:
        return False

    def commit(self, progress: Done, state: dict[str, Tensor] | None = None) -> None:
        if state is not None:
            self.written.append(serialise(state))

"""Whether a backbone has seen the images or the classes that a cell measures it on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backbones.seen import Seen
from benchmarks.images import Digests, Inputs
from benchmarks.stream import Exam, StreamInfo, Task
from carryover.records.record import Overlap

NAMED = 3  # classes that a note names


def overlap(info: StreamInfo, tasks: Sequence[Task], exam: Exam, seen: Seen) -> Overlap | None:
    """The images and classes of the stream that were seen in pretraining; None without any."""
    tested = _distinct([exam.inputs(task) for task in exam.tasks])
    trained = _distinct([part.inputs for task in tasks for part in (task.train, task.val)])
    classes = seen.classes_in(info.class_names)
    found = Overlap(
        source=seen.source,
        test=seen.images_in(tested),
        tested=len(tested),
        train=seen.images_in(trained),
        trained=len(trained),
        classes=tuple(classes),
    )
    return found if found.test or found.train or found.classes else None


def note(found: Overlap, info: StreamInfo) -> str:
    """One sentence for a reader of the record or of a table."""
    said = []
    if found.test or found.train:
        share = found.test / max(found.tested, 1)
        said.append(
            f"{found.test:,} of {found.tested:,} test images ({share:.0%}) and {found.train:,} of "
            f"{found.trained:,} training images are among those that the backbone was pretrained on"
        )
    if found.classes:
        named = ", ".join(found.classes[:NAMED]) + (", ..." if len(found.classes) > NAMED else "")
        said.append(
            f"{len(found.classes):,} of {len(info.class_names):,} classes are classes that it was pretrained "
            f"on, by name ({named})"
        )
    return f"{'; '.join(said)}: {found.source}"


def _distinct(parts: Sequence[Inputs]) -> Digests:
    """The digests of all images, each once."""
    known = [digests for part in parts if (digests := part.digests) is not None]
    return np.unique(np.concatenate(known)) if known else np.zeros(0, np.uint64)

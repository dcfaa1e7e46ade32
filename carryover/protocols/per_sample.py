"""Whether each image is scored by itself: measured in every cell, since its contract says so.

A method may vote over its batch, normalise by it, or read where in the order an image stands, and nobody sees
it in the accuracy. Some images are asked again, in other batches and another order, and a few alone: what
rounding does not explain fails the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.images import Indices, Inputs
from benchmarks.seeds import generator
from carryover.protocols.rounding import Rounding
from carryover.protocols.work import PredictionError

SAMPLE = 256  # images asked again at most
ALONE = 8
TRIED = 16  # of the images with another answer

Predict = Callable[[Inputs], Tensor]  # (N, columns) logits of N images


def check(
    predict: Predict, inputs: Inputs, answers: Indices, classes: Sequence[int], where: str, share: int = 1
) -> None:
    """PredictionError unless `predict` gives the same when some of `inputs` are asked otherwise.

    answers: (N,) the global classes that it gave for all of them at once; classes: (columns,) of the logits;
    where: names the images; share: how many such parts share the numbers of images.
    """
    drawn = generator("asked again", inputs.fingerprint).permutation(len(inputs))
    sample, few = drawn[: max(SAMPLE // share, 1)], drawn[: max(ALONE // share, 1)]
    again = predict(inputs.select(sample))
    alone = torch.cat([predict(inputs.select(few[at : at + 1])) for at in range(len(few))])
    # How far rounding goes is tried on few images, since each trial takes several times as long as predicting
    # them; on all of them only where that explains too little: kernels for many images round otherwise.
    first, whole = np.arange(len(few)), Rounding(partial(predict, inputs.select(sample)), again)
    together = Rounding(partial(predict, inputs.select(few)))
    for found, among in ((alone, "alone"), (again[: len(few)], f"among {len(sample)}")):
        if not together.unexplained(found):
            continue
        if apart := whole.unexplained(alone, first) or whole.unexplained(together.result, first):
            raise PredictionError(
                f"predictions depend on what else is asked: for {len(few)} images of {where}, {among} and in "
                f"one batch, the logits differ {apart}; score each image by itself"
            )
    columns = {cls: column for column, cls in enumerate(classes)}
    given = torch.tensor([columns[int(cls)] for cls in answers[sample]])
    changed = np.flatnonzero((given != again.argmax(1)).numpy())
    if not len(changed):
        return
    tried = changed[:TRIED]
    bounds = (
        lambda: Rounding(partial(predict, inputs.select(sample[tried]))).bound,
        lambda: whole.bound[tried],
    )
    # Not a change if rounding can lift the answer to the largest logit.
    if not any(_lifted(again[tried], given[tried], bound()) for bound in bounds):
        raise PredictionError(
            f"predictions depend on what else is asked: of {len(sample)} images of {where}, asked again in "
            f"another order and other batches, {len(changed)} get another answer; score each image by itself"
        )


def _lifted(logits: Tensor, given: Tensor, bound: Tensor) -> bool:
    """Whether each given column may be the largest if logits move by up to `bound`."""
    highest = (logits + bound).gather(1, given[:, None])[:, 0]
    return bool((highest >= (logits - bound).amax(1)).all())

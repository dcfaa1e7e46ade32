"""What methods are made of.

- `method`     the contract of every method: `Method`, its `Context` and its `Footprint`
- `gradient`   `GradientMethod`, which owns the training of those that follow a gradient
- `efficient`  `ParameterEfficient`, for those that insert something small into a frozen network
- `peft`       `PeftTuner`, for those that the `peft` library inserts
- `heads`      linear and cosine heads for the three scenarios
- `memory`     exemplars: what is kept of earlier tasks' images
- `prepared`   `PreparedMethod`, for those that start from what is trained once on a pool; `card`, its files
"""

from methods.base.efficient import ParameterEfficient
from methods.base.gradient import GradientMethod, Stage, Step
from methods.base.heads import Heads
from methods.base.memory import Memory
from methods.base.method import Context, Footprint, Method

__all__ = [
    "Context",
    "Footprint",
    "GradientMethod",
    "Heads",
    "Memory",
    "Method",
    "ParameterEfficient",
    "Stage",
    "Step",
]

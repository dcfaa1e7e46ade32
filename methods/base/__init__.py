"""The base of methods.

- `method`     the contract of every method: `Method`, its `Context` and its `Footprint`
- `gradient`   `GradientMethod`, the training loop of methods that train by gradient
- `efficient`  `ParameterEfficient`, for methods that insert something small into a frozen network
- `peft`       `PeftTuner`, for the tuners of the `peft` library
- `heads`      linear and cosine heads for the three scenarios
- `memory`     exemplars: images of earlier tasks that are kept
- `prepared`   `PreparedMethod`, for methods that start from tensors trained once on a pool; `card`, its files
"""

from methods.base.efficient import ParameterEfficient
from methods.base.gradient import GradientMethod
from methods.base.heads import Heads
from methods.base.memory import Memory
from methods.base.method import Context, Footprint, Method
from methods.base.step import Stage, Step

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

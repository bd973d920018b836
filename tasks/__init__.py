"""What is learned: every task is a frozen dataclass that says its `spec` and makes its splits from a seed."""

from collections.abc import Callable

from tasks.copying import Copying
from tasks.delay import Delay
from tasks.digits import Digits
from tasks.metrics import METRICS, Metric, loss_for
from tasks.task import Spec, Split, SplitName, Task

#: Name -> a task of the default size. What `ablate list` shows and what every test of the contract runs over.
TASKS: dict[str, Callable[[], Task]] = {
    "copying": Copying,
    "delay": Delay,
    "digits": Digits,
}

__all__ = [
    "METRICS",
    "TASKS",
    "Copying",
    "Delay",
    "Digits",
    "Metric",
    "Spec",
    "Split",
    "SplitName",
    "Task",
    "loss_for",
]

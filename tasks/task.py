"""What a task is: a frozen dataclass that says what goes in and out, and makes its splits from a seed."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a model must fit to: its input, its output, and how it is scored."""

    kind: Literal["classification", "regression"]
    inputs: int  # channels of the input, or the vocabulary size when `tokens`
    tokens: bool  # x is int64 (batch, length) when true, float32 (batch, length, inputs) otherwise
    outputs: int  # classes, or channels of the target
    length: int
    pooled: bool  # true: one target a sequence; false: one target a position
    metric: str  # a name in METRICS
    chance: float  # the score of knowing nothing, in the metric's unit


class Split(NamedTuple):
    """Inputs and targets of one split.

    Targets: classes are int64 with -100 where nothing is asked, (batch,) when pooled and (batch, length) otherwise;
    regression targets are float32, (batch, outputs) or (batch, length, outputs).
    """

    x: Tensor
    y: Tensor


@runtime_checkable
class Task(Protocol):
    """The contract of a task."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def spec(self) -> Spec:
        """What a model must fit to."""

    def split(self, name: SplitName, seed: int, epoch: int = 0) -> Split:
        """The samples of a split, always the same for the same arguments.

        `seed` and `epoch` choose the training samples of a generated task; `validation` and `test` depend on neither,
        so that every trial is scored on the same samples.
        """

"""What a state-space layer promises: a description that builds it, and three ways to run it that agree."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Structure(Protocol):
    """The description of a state-space layer: a frozen dataclass that checks itself and builds the layer."""

    def check(self, width: int) -> None:
        """Raise `descriptions.ImpossibleError` if there is no such layer of this width."""
        ...

    def build(self, width: int, seed: int) -> "SSM":
        """The layer, on the CPU, with every number drawn from `seed` and none from a global generator."""
        ...

    def caveats(self) -> list[str]:
        """Sentences a reader of the results must know: what is done that the names do not say."""
        ...


class SSM(nn.Module, ABC):
    """A causal map from (B, L, H) to (B, L, H) with a recurrent state.

    `forward`, `step` repeated, and `scan` compute the same function.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own_rates: dict[str, float | None] = {}

    def register_own(self, name: str, value: Tensor, rate: float | None) -> None:
        """Store a tensor with a learning rate of its own: None is the trainer's, and 0 makes it a buffer.

        A buffer, because a parameter whose rate is 0 would still cost its gradient and count as trained.
        """
        if rate == 0:
            self.register_buffer(name, value)
        else:
            self.register_parameter(name, nn.Parameter(value))
            self._own_rates[name] = rate

    def own_rates(self) -> dict[str, float | None]:
        """Learning rate of each parameter that is registered as its own; None stands for the trainer's.

        None of these is decayed: weight decay on A or dt would pull all time scales together.
        """
        return dict(self._own_rates)

    @abstractmethod
    def forward(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """The whole sequence at once: how it is trained."""

    @abstractmethod
    def initial_state(self, batch: int) -> Tensor:
        """The state before the first step."""

    @abstractmethod
    def step(self, u: Float[Tensor, "B H"], state: Any) -> tuple[Float[Tensor, "B H"], Any]:
        """One step of the recurrence: how it is deployed."""

    @abstractmethod
    def scan(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """The whole sequence by the sequential recurrence: the reference for `forward`."""

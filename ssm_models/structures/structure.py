"""What a state-space layer promises: a description that builds it, and several ways to run it that agree."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from descriptions import ImpossibleError, seed_for

#: (u (B, H), state) -> (y (B, H), state)
Stepper = Callable[[Tensor, Any], tuple[Tensor, Any]]


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
    """A linear time-invariant map from (B, L, H) to (B, L, H) with a recurrent state.

    `forward`, `scan`, `step` repeated, and `chunk` over the pieces of a sequence compute the same function. A layer
    that has no recurrence (it sees the future, or its kernel depends on the length) says why in `no_recurrence`.
    """

    no_recurrence: str = ""
    has_scan: bool = True
    """False where no recurrence in either direction computes the layer."""
    has_step_size: bool = True
    """False for structures that are defined in discrete time."""

    def __init__(self) -> None:
        super().__init__()
        self._own_rates: dict[str, float | None] = {}
        self._rate = 1.0

    def register_own(self, name: str, value: Tensor, rate: float | None) -> None:
        """Store a tensor with a learning rate of its own: None is the trainer's, and 0 makes it a buffer.

        A buffer, because a parameter whose rate is 0 would still cost its gradient and count as trained.
        """
        if rate == 0:
            self.register_buffer(name, value)
        else:
            self.register_parameter(name, nn.Parameter(value))
            self._own_rates[name] = rate

    def register_weight(self, name: str, value: Tensor, rate: float | None) -> None:
        """The same, except that None leaves it among the other weights: the trainer's rate, and decayed."""
        if rate is None:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_own(name, value, rate)

    def own_rates(self) -> dict[str, float | None]:
        """Learning rate of each parameter that is registered as its own; None stands for the trainer's.

        None of these is decayed: weight decay on A or dt would pull all time scales together.
        """
        return dict(self._own_rates)

    @property
    def rate(self) -> float:
        """How many steps of training one step now is: dt is multiplied by it. 2 halves the sampling rate."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if not self.has_step_size:
            raise ImpossibleError(f"{type(self).__name__} is defined in discrete time: it has no dt to change.")
        self._rate = rate

    @abstractmethod
    def forward(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """The whole sequence at once: how it is trained."""

    @abstractmethod
    def scan(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """The whole sequence by the recurrence, in logarithmic depth."""

    @abstractmethod
    def initial_state(self, batch: int) -> Any:
        """The state before the first step: zeros."""

    @abstractmethod
    def stepper(self) -> Stepper:
        """One step of the recurrence, (u, state) -> (y, state), with the discrete system worked out once."""

    def step(self, u: Float[Tensor, "B H"], state: Any) -> tuple[Float[Tensor, "B H"], Any]:
        """One step of the recurrence. For many with the same parameters take a `stepper`."""
        return self.stepper()(u, state)

    @abstractmethod
    def chunk(self, u: Float[Tensor, "B L H"], state: Any) -> tuple[Float[Tensor, "B L H"], Any]:
        """`forward` from a state, and the state it ends in: a long sequence in pieces."""

    @abstractmethod
    def spectrum(self) -> "Spectrum":
        """Where the eigenvalues are, before and after discretisation."""

    def forecast(self, u: Float[Tensor, "B L H"], horizon: int) -> Float[Tensor, "B {horizon} H"]:
        """Closed loop: after `u`, every output is the next input. The first output returned is the one at L-1.

        A layer whose output at k predicts u_{k+1} continues the sequence so, as SpaceTime's decoder does
        (Zhang et al. 2023, arXiv:2303.09489).
        """
        y, state = self.chunk(u, self.initial_state(u.shape[0]))
        outputs, step = [y[:, -1]], self.stepper()
        for _ in range(horizon - 1):
            value, state = step(outputs[-1], state)
            outputs.append(value)
        return torch.stack(outputs, dim=1)

    def require_recurrence(self) -> None:
        """Raise `ImpossibleError` with the reason if there is no step from a state."""
        if self.no_recurrence:
            raise ImpossibleError(f"There is no step by step: {self.no_recurrence}")


class Spectrum:
    """Eigenvalues of a layer, of each channel or (R = 1) shared by all, one of each conjugate pair.

    A      before discretisation, (R, N); None for a structure defined in discrete time
    A_bar  after discretisation, (R, N), complex128
    dt     (R, 1) or (R, N); None where A is
    note   what a reader must know before believing them; empty where there is nothing
    """

    def __init__(
        self,
        A_bar: Complex[Tensor, "R N"],
        A: Complex[Tensor, "R N"] | None = None,
        dt: Float[Tensor, "R #N"] | None = None,
        note: str = "",
    ) -> None:
        self.A_bar, self.A, self.dt, self.note = A_bar.detach(), _detached(A), _detached(dt), note


def _detached(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach()


def generator(seed: int) -> torch.Generator:
    """A CPU generator of its own."""
    return torch.Generator().manual_seed(seed)


def draw_skip(width: int, seed: int) -> Float[Tensor, " {width}"]:
    """D ~ N(0, 1) of each channel, the same for all structures of one seed."""
    return torch.randn(width, generator=generator(seed_for(seed, "D")))


def names_of_c(bidirectional: bool) -> tuple[str, ...]:
    """What the generators of C are named after, so that the forward one is the same with and without a reverse."""
    return ("C", "C reverse") if bidirectional else ("C",)


#: The caveat of every bidirectional layer.
SEES_LATER = "bidirectional=True sees later inputs: it has no step-by-step form."

"""Layers of one multi-input multi-output system: one state that every channel drives and every channel reads.

They run as a recurrence only. As convolutions they would have H x H kernels of length L, which `impulse_response`
makes for inspection.
"""

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float, Inexact
from torch import Tensor, nn

from ssm_models.scan import associative
from ssm_models.structures.siso import SEES_THE_FUTURE
from ssm_models.structures.structure import SSM, Stepper

Resets = Bool[Tensor, "B L"]


class System(NamedTuple):
    """x_k = A x_{k-1} + B u_k,  y_k = Re C x_k, with A diagonal, (P), or dense, (P, P).

    A and B in double precision, C in that of the parameters. There are two C, the second for the states that run
    backwards in time, if bidirectional, else one.
    """

    A: Complex[Tensor, " P"] | Float[Tensor, "P P"]
    B: Complex[Tensor, "P H"] | Float[Tensor, "P H"]
    C: Complex[Tensor, "S H P"] | Float[Tensor, "S H P"]


class SharedState(SSM):
    """y = Re C x + D u, with x driven by all channels; y = Re C0 x + Re C1 x' + D u with x' from the end, if both ways.

    As in the S5 authors' code both directions share A and B, and both include the step itself.

    `resets` (B, L) says before which steps the state is zeroed, as where another episode begins: pieces of several
    sequences then run as one, and neither states nor gradients cross (Lu et al. 2023, arXiv:2303.03982).
    """

    def __init__(self, *, width: int, D: Float[Tensor, " H"] | None, bidirectional: bool) -> None:
        super().__init__()
        self.width, self.bidirectional = width, bidirectional
        self.D = None if D is None else nn.Parameter(D)
        if bidirectional:
            self.no_recurrence = SEES_THE_FUTURE

    @abstractmethod
    def system(self) -> System:
        """The discrete system, from the parameters."""

    @abstractmethod
    def _states(
        self, A: Tensor, bu: Inexact[Tensor, "B L P"], initial: Inexact[Tensor, "B P"], resets: Resets | None
    ) -> Inexact[Tensor, "B L P"]:
        """x_k = A x_{k-1} + bu_k, from 0 where `resets`, in logarithmic depth."""

    @abstractmethod
    def _advance(self, A: Tensor, state: Inexact[Tensor, "B P"]) -> Inexact[Tensor, "B P"]:
        """A x."""

    def forward(self, u: Float[Tensor, "B L H"], resets: Resets | None = None) -> Float[Tensor, "B L H"]:
        """The same as `scan`."""
        return self.scan(u, resets)

    def scan(self, u: Float[Tensor, "B L H"], resets: Resets | None = None) -> Float[Tensor, "B L H"]:
        """The states of every step, from both ends if bidirectional."""
        A, B, C = self.system()
        bu = _drive(B.to(C.dtype), u)
        start = bu.new_zeros(bu.shape[0], bu.shape[2])
        y = _read(C[0], self._states(A, bu, start, resets))
        if self.bidirectional:
            # Backwards, the cut between k-1 and k comes before step k-1.
            cuts = None if resets is None else torch.nn.functional.pad(resets[:, 1:], (0, 1)).flip(1)
            y = y + _read(C[1], self._states(A, bu.flip(1), start, cuts).flip(1))
        return self._with_skip(y, u)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros (B, P)."""
        C = self.system().C
        return C.new_zeros(batch, C.shape[2])

    def stepper(self) -> Stepper:
        """x = A x + B u, y = Re C x + D u. Whoever steps through several episodes zeroes the state between them."""
        self.require_recurrence()
        A, B, C = self.system()
        A, B = A.to(C.dtype), B.to(C.dtype)

        def step(u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            state = self._advance(A, state) + _drive(B, u)
            return self._with_skip(_read(C[0], state), u), state

        return step

    def chunk(
        self, u: Float[Tensor, "B L H"], state: Tensor, resets: Resets | None = None
    ) -> tuple[Float[Tensor, "B L H"], Tensor]:
        """`scan` from a state, and the state it ends in."""
        self.require_recurrence()
        A, B, C = self.system()
        states = self._states(A, _drive(B.to(C.dtype), u), state, resets)
        return self._with_skip(_read(C[0], states), u), states[:, -1]

    def impulse_response(self, length: int) -> Float[Tensor, "S {length} H H"]:
        """K_lij = Re (C A^l B)_ij, what channel i answers l steps after a unit input to channel j, without D.

        S = 2, the second backwards in time, if bidirectional; else 1. Needs H P numbers a step: for inspection.
        """
        A, B, C = self.system()
        inputs = B.T.to(C.dtype)[:, None]
        bu = torch.cat([inputs, inputs.new_zeros(inputs.shape[0], length - 1, inputs.shape[2])], dim=1)
        states = self._states(A, bu, torch.zeros_like(inputs[:, 0]), None)
        return torch.stack([_read(c, states) for c in C]).permute(0, 2, 3, 1)

    def _with_skip(self, y: Float[Tensor, "*S H"], u: Float[Tensor, "*S H"]) -> Float[Tensor, "*S H"]:
        if self.D is not None:
            y = y + self.D * u
        return y.to(u.dtype)


class DiagonalSharedState(SharedState):
    """A layer whose A is diagonal: all ways to run it follow from its `system`."""

    def _states(
        self, A: Tensor, bu: Inexact[Tensor, "B L P"], initial: Inexact[Tensor, "B P"], resets: Resets | None
    ) -> Inexact[Tensor, "B L P"]:
        if resets is None:
            return associative(A, bu, initial)
        a = A.to(bu.dtype)
        return associative(torch.where(resets[..., None], torch.zeros_like(a), a), bu, initial)

    def _advance(self, A: Tensor, state: Inexact[Tensor, "B P"]) -> Inexact[Tensor, "B P"]:
        return A * state


def _drive(B: Inexact[Tensor, "P H"], u: Float[Tensor, "*S H"]) -> Inexact[Tensor, "*S P"]:
    """B u in the precision of B, whatever autocast says; for a complex B by one product of real matrices."""
    with torch.autocast(u.device.type, enabled=False):
        u = u.to(B.real.dtype)
        if not B.is_complex():
            return u @ B.T
        pairs = u @ torch.view_as_real(B).transpose(1, 2).flatten(0, 1).T
        return torch.view_as_complex(pairs.reshape(*u.shape[:-1], -1, 2))


def _read(C: Inexact[Tensor, "H P"], states: Inexact[Tensor, "*S P"]) -> Float[Tensor, "*S H"]:
    """Re C x, likewise."""
    with torch.autocast(states.device.type, enabled=False):
        if not C.is_complex():
            return states @ C.T
        pairs = torch.view_as_real(C.conj().resolve_conj()).flatten(1)
        return torch.view_as_real(states).flatten(-2) @ pairs.T

"""Layers of one single-input single-output system a channel: what those with a diagonal transition have in common."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from ssm_models.kernel import convolve, driven_state, vandermonde
from ssm_models.scan import associative
from ssm_models.structures.structure import SSM, Stepper

#: Why a bidirectional layer has no step.
SEES_THE_FUTURE = "bidirectional=True sees the future."


class Siso(SSM):
    """y = K * u + D u, with a kernel K for each channel, and one more for later inputs if it is bidirectional."""

    def __init__(self, *, width: int, D: Float[Tensor, " H"] | None, bidirectional: bool) -> None:
        super().__init__()
        self.width, self.bidirectional = width, bidirectional
        self.D = None if D is None else nn.Parameter(D)
        if bidirectional:
            self.no_recurrence = SEES_THE_FUTURE

    @abstractmethod
    def kernels(self, length: int) -> Float[Tensor, "S {length} H"]:
        """Taps 0 .. length-1, without D: S = 2, the second for the reverse direction, if bidirectional; else 1."""

    def forward(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """y = K * u + D u by FFT. D u is the convolution with D at tap 0, so it joins the kernel there."""
        kernels = self.kernels(u.shape[1])
        forward = kernels[0]
        if self.D is not None:
            forward = torch.cat([forward[:1] + self.D, forward[1:]])
        return convolve(u, forward, kernels[1] if self.bidirectional else None)

    def both_ways(
        self, outputs: Float[Tensor, "B L H"], reverse: Float[Tensor, "B L H"] | None, u: Float[Tensor, "B L H"]
    ) -> Float[Tensor, "B L H"]:
        """y of the recurrence's outputs in both directions; `reverse` runs on the flipped inputs.

        As in the S4 authors' code the reverse kernel begins one step later, so that a step acts on itself once.
        """
        if reverse is not None:
            later = reverse.flip(1)[:, 1:]
            outputs = outputs + torch.nn.functional.pad(later, (0, 0, 0, 1))
        return self.with_skip(outputs, u)

    def with_skip(self, y: Float[Tensor, "*S H"], u: Float[Tensor, "*S H"]) -> Float[Tensor, "*S H"]:
        """Y + D u, in the dtype of u."""
        if self.D is not None:
            y = y + self.D * u
        return y.to(u.dtype)


class Recurrence(NamedTuple):
    """x_k = a x_{k-1} + b u_k,  y_k = Re sum_n c_n x_n, of each channel.

    log_a and b in double precision, which is cheap at their size: a kernel multiplies log a, and with it its error, by
    up to L. c has the precision of the parameters; there are two, the second for the reverse direction, if
    bidirectional, else one. Real b and c say that the modes are real: Im log a is then 0 or pi.
    """

    log_a: Complex[Tensor, "H N"]
    b: Complex[Tensor, "H N"] | Float[Tensor, "H N"]
    c: Complex[Tensor, "S H N"] | Float[Tensor, "S H N"]


class DiagonalSiso(Siso):
    """A layer whose transition is diagonal: all ways to run it follow from its `recurrence`."""

    @abstractmethod
    def recurrence(self) -> Recurrence:
        """The discrete system, from the parameters."""

    def kernels(self, length: int) -> Float[Tensor, "S {length} H"]:
        """K_l = Re sum_n c_n a_n^l b_n."""
        log_a, b, c = self.recurrence()
        return vandermonde((c * b).to(c.dtype), log_a, length)

    def scan(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """The states of every step, from both ends if bidirectional: N times the memory of `forward`."""
        a, b, c = self._steps()
        start = b.new_zeros(u.shape[0], *b.shape)
        outputs = _output(c[0], associative(a, b * u[..., None], start))
        reverse = _output(c[1], associative(a, b * u.flip(1)[..., None], start)) if self.bidirectional else None
        return self.both_ways(outputs, reverse, u)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros (B, H, N)."""
        c = self.recurrence().c
        return c.new_zeros(batch, *c.shape[1:])

    def stepper(self) -> Stepper:
        """x = a x + b u, y = Re(c x) + D u."""
        self.require_recurrence()
        a, b, c = self._steps()

        def step(u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            state = a * state + b * u[..., None]
            return self.with_skip(_output(c[0], state), u), state

        return step

    def chunk(self, u: Float[Tensor, "B L H"], state: Tensor) -> tuple[Float[Tensor, "B L H"], Tensor]:
        """The response to the inputs plus that to the state, Re c a^{k+1} x: both are Vandermonde sums."""
        self.require_recurrence()
        log_a, _, _ = self.recurrence()
        a, b, c = self._steps()
        free = vandermonde(c[0] * a * state, log_a, u.shape[1])
        decayed = _like(torch.exp(u.shape[1] * log_a), c).to(c.dtype) * state
        driven = b * _like(driven_state(u.to(c.real.dtype), log_a), c)
        return self.forward(u) + free.to(u.dtype), decayed + driven

    def _steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """(a, b, c) in the precision of the parameters, real if the modes are."""
        log_a, b, c = self.recurrence()
        return _like(torch.exp(log_a), c).to(c.dtype), b.to(c.dtype), c


def _like(x: Tensor, c: Tensor) -> Tensor:
    return x if c.is_complex() else x.real


def _output(c: Tensor, states: Tensor) -> Tensor:
    return (c * states).sum(dim=-1).real

"""From continuous time to steps of dt: x' = A x + B u becomes x_k = A_bar x_{k-1} + B_bar u_k.

With Z = dt A, a rule is one definition of A_bar and of the gain G in B_bar = G B. It is written over an `Algebra`, so
that the eigenvalues of a diagonal A and a whole matrix A are discretised by the same line:

    `DIAGONAL`   A of shape (*S), one number a mode; A_bar as its logarithm, as A_bar^l = exp(l log A_bar) needs
                 no product of l rounded factors
    `DENSE`      A of shape (*S, N, N); A_bar and G as matrices

    rule                 A_bar                              B_bar / B
    zoh                  e^Z                                dt phi1(Z) = A^-1 (e^Z - 1)
    gbt(alpha)           (1 - alpha Z)^-1 (1 + (1-alpha) Z)  dt (1 - alpha Z)^-1
      bilinear             alpha = 1/2
      forward_euler        alpha = 0
      backward_euler       alpha = 1
    exponential_euler    e^Z                                dt
    dirac                e^Z                                1

Functions that lose digits near z = 0, (e^z - 1) / z and log A_bar, are written in real arithmetic. Naively in
float32 they are wrong by 2e-4 and 5e-2 at dt = 1e-4; and not every device has dependable complex expm1 and log1p.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

from descriptions import check_fields, one_of, require

# |A_bar| below which it counts as 0: too small to change a kernel, with a square that float32 can invert.
_ZERO = 1e-18


class Algebra(ABC):
    """The functions of Z that the rules are made of."""

    @abstractmethod
    def one(self, z: Tensor) -> Tensor:
        """1."""

    @abstractmethod
    def transition_exp(self, z: Tensor) -> Tensor:
        """A_bar = e^Z."""

    @abstractmethod
    def phi1(self, z: Tensor) -> Tensor:
        """(e^Z - 1) / Z."""

    @abstractmethod
    def transition_moebius(self, z: Tensor, alpha: float) -> Tensor:
        """A_bar = (1 - alpha Z)^-1 (1 + (1 - alpha) Z)."""

    @abstractmethod
    def resolvent(self, z: Tensor, alpha: float) -> Tensor:
        """(1 - alpha Z)^-1."""


Discretization = Callable[[Algebra, Tensor, Tensor], tuple[Tensor, Tensor]]


def zoh(over: Algebra, z: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Zero-order hold: exact for an input that is constant over each step."""
    return over.transition_exp(z), dt * over.phi1(z)


def exponential_euler(over: Algebra, z: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """The exact transition with the input of an Euler step, as in Mamba (Gu & Dao 2023, arXiv:2312.00752)."""
    return over.transition_exp(z), dt * over.one(z)


def dirac(over: Algebra, z: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Impulse-invariant: exact for an input that is a train of impulses, hence no factor dt in B_bar."""
    return over.transition_exp(z), over.one(z)


@dataclass(frozen=True)
class GBT:
    """The generalised bilinear transform (Zhang et al. 2007), from forward (0) to backward Euler (1).

    Below 1/2 it is stable only for small steps: |A_bar| < 1 iff dt < 2 |Re A| / ((1 - 2 alpha) |A|^2). At 1/2
    (Tustin) it warps high frequencies where the exponential rules alias them. Above, it damps them more than A does.
    """

    alpha: float

    def __post_init__(self) -> None:
        check_fields(self)
        require(0 <= self.alpha <= 1, f"alpha={self.alpha:g}: it must hold that 0 <= alpha <= 1.")

    def __call__(self, over: Algebra, z: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        """(A_bar, B_bar / B)."""
        return over.transition_moebius(z, self.alpha), dt * over.resolvent(z, self.alpha)


DISCRETIZATIONS: dict[str, Discretization] = {
    "zoh": zoh,
    "bilinear": GBT(0.5),
    "forward_euler": GBT(0.0),
    "backward_euler": GBT(1.0),
    "exponential_euler": exponential_euler,
    "dirac": dirac,
}


def check_discretization(named: str | GBT) -> None:
    """Raise `MistakeError` for a name that is not in `DISCRETIZATIONS`."""
    if isinstance(named, str):
        one_of("discretization", named, DISCRETIZATIONS)


def rule_of(named: str | GBT) -> Discretization:
    """The rule that a field `discretization` names, or is."""
    return DISCRETIZATIONS[named] if isinstance(named, str) else named


def discretize_diagonal(
    named: str | GBT, A: Complex[Tensor, "*S N"], dt: Float[Tensor, "*S #N"]
) -> tuple[Complex[Tensor, "*S N"], Complex[Tensor, "*S N"]]:
    """(log A_bar, B_bar / B) of each mode."""
    return rule_of(named)(DIAGONAL, dt * A, dt)


def discretize_dense(
    named: str | GBT, A: Inexact[Tensor, "*S N N"], dt: Float[Tensor, "*S"]
) -> tuple[Inexact[Tensor, "*S N N"], Inexact[Tensor, "*S N N"]]:
    """(A_bar, G) with B_bar = G B."""
    step = dt[..., None, None]
    return rule_of(named)(DENSE, step * A, step)


def largest_stable_dt(named: str | GBT, A: Complex[Tensor, "*S"]) -> float:
    """The step above which some mode of a decaying A grows under this rule; infinity for an A-stable rule."""
    rule, moving = rule_of(named), A[A != 0]  # a mode at 0 keeps its value at any step
    if not isinstance(rule, GBT) or rule.alpha >= 0.5 or not moving.numel():
        return math.inf
    return (2 * moving.real.abs() / ((1 - 2 * rule.alpha) * moving.abs() ** 2)).min().item()


class _Diagonal(Algebra):
    """One number a mode, complex; transitions as their logarithms."""

    def one(self, z: Tensor) -> Tensor:
        return torch.ones_like(z)

    def transition_exp(self, z: Tensor) -> Tensor:
        return z

    def phi1(self, z: Tensor) -> Tensor:
        return phi1(z)

    def transition_moebius(self, z: Tensor, alpha: float) -> Tensor:
        return log_moebius(z, alpha)

    def resolvent(self, z: Tensor, alpha: float) -> Tensor:
        return 1 / (1 - alpha * z)


class _Dense(Algebra):
    """Square matrices in the last two dimensions."""

    def one(self, z: Tensor) -> Tensor:
        return torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).expand_as(z)

    def transition_exp(self, z: Tensor) -> Tensor:
        y: Tensor = torch.linalg.matrix_exp(z)
        return y

    def phi1(self, z: Tensor) -> Tensor:
        """The upper right block of exp [[Z, 1], [0, 0]], which needs no inverse of Z."""
        N = z.shape[-1]
        upper = torch.cat([z, self.one(z)], dim=-1)
        return self.transition_exp(torch.cat([upper, torch.zeros_like(upper)], dim=-2))[..., :N, N:]

    def transition_moebius(self, z: Tensor, alpha: float) -> Tensor:
        one = self.one(z)
        y: Tensor = torch.linalg.solve(one - alpha * z, one + (1 - alpha) * z)
        return y

    def resolvent(self, z: Tensor, alpha: float) -> Tensor:
        y: Tensor = torch.linalg.inv(self.one(z) - alpha * z)
        return y


DIAGONAL, DENSE = _Diagonal(), _Dense()


def phi1(z: Complex[Tensor, "*S"]) -> Complex[Tensor, "*S"]:
    """(e^z - 1) / z, and 1 at z = 0: accurate to rounding for every z, with a finite gradient.

    With z = x + iy:  Re(e^z - 1) = expm1(x) cos y - 2 sin^2(y/2),  Im(e^z - 1) = e^x sin y.
    """
    near = z.real.abs() + z.imag.abs() < 1e-3
    # Each branch gets arguments at which its gradient is finite: where() alone would give 0 * inf.
    far_z = torch.where(near, torch.ones_like(z), z)
    near_z = torch.where(near, z, torch.zeros_like(z))
    x, y = far_z.real, far_z.imag
    numerator = torch.complex(torch.expm1(x) * torch.cos(y) - 2 * torch.sin(y / 2) ** 2, torch.exp(x) * torch.sin(y))
    series = torch.ones_like(z)  # sum of z^k / (k+1)! up to k = 4; the rest is below 2e-18 here
    for k in range(5, 1, -1):
        series = 1 + near_z * series / k
    return torch.where(near, series, numerator / far_z)


def log_moebius(z: Complex[Tensor, "*S"], alpha: float) -> Complex[Tensor, "*S"]:
    """log a with a = (1 + (1-alpha) z) / (1 - alpha z): accurate to rounding for every Re z <= 0.

    With z = x + iy:  |a|^2 - 1 = (2x + (1 - 2 alpha) |z|^2) / |1 - alpha z|^2, in which nothing cancels at
    alpha = 1/2, and  arg a = atan2(y, (1 + (1-alpha) x) (1 - alpha x) - alpha (1-alpha) y^2).
    A negative real a has arg a = pi. At a = 0, log|a| is the finite log 1e-18 and the gradient is zero.
    """
    beta = 1 - alpha
    zero = (1 + beta * z.real) ** 2 + (beta * z.imag) ** 2 < _ZERO**2 * ((1 - alpha * z.real) ** 2)
    z = torch.where(zero, torch.full_like(z, -0.5), z)
    x, y = z.real, z.imag
    above = (1 + beta * x) ** 2 + (beta * y) ** 2
    below = (1 - alpha * x) ** 2 + (alpha * y) ** 2
    excess = (2 * x + (1 - 2 * alpha) * (x**2 + y**2)) / below
    strong = excess < -0.5  # towards a = 0, log1p would lose the digits that log|1 + beta z| keeps
    log_square = torch.where(
        strong,
        torch.log(torch.where(strong, above, torch.ones_like(x))) - torch.log(below),
        torch.log1p(torch.where(strong, torch.zeros_like(x), excess)),
    )
    angle = torch.atan2(y, (1 + beta * x) * (1 - alpha * x) - alpha * beta * y**2)
    return torch.where(zero, torch.full_like(z, math.log(_ZERO)), torch.complex(log_square / 2, angle))

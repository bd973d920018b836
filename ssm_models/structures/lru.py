"""LRU, the linear recurrent unit: a diagonal system in discrete time.

    x_k = lambda x_{k-1} + gamma B u_k,   y_k = Re(C x_k) + D u_k         (Orvieto et al. 2023, arXiv:2303.06349)

    H       channels (the width)        N    complex modes, each on its own: no conjugate pairs, so no factor 2
    lambda  (N), on a ring              B    (N, H), Re and Im ~ N(0, 1/(2H))
    gamma   (N), sqrt(1 - |lambda|^2)   C    (H, N), Re and Im ~ N(0, 1/N), twice that if bidirectional
    D       (H), N(0, 1)

The paper comes to it from a linear RNN in steps, each of which is a rung of `LADDER`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from descriptions import ImpossibleError, check_fields, one_of, require, seed_for
from ssm_models.projections import complex_normal
from ssm_models.structures.linear_rnn import LinearRNN
from ssm_models.structures.shared_state import DiagonalSharedState, System
from ssm_models.structures.step_size import check_rate
from ssm_models.structures.structure import SEES_LATER, Spectrum, Structure, draw_skip, generator, names_of_c

# |lambda| and its phase keep this far from 0 and 1 at the start: their logarithms are stored.
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class LRU:
    """The description of an LRU layer. The defaults are the authors'."""

    state: int = 256
    """N, the number of COMPLEX modes, as the paper counts: a real state of size 2N."""
    parameterization: str = "stable_exp"
    """What of lambda is trained: a name in `PARAMETERIZATIONS`."""
    r_min: float = 0.0
    r_max: float = 1.0
    """The ring that lambda starts on, uniformly in area: r_min <= |lambda| <= r_max. The whole disc is what the
    eigenvalues of a large Glorot matrix fill."""
    max_phase: float = 2 * math.pi
    """The initial phases are uniform on [0, max_phase]."""
    gamma: bool = True
    """Whether the inputs of a mode are scaled by a trained gamma, which starts such that white noise drives every
    mode to the same variance. Without, those near the unit circle are the largest by far."""
    bidirectional: bool = False
    """A second C, for states that run backwards in time with the same lambda and B."""
    lr_A: float | None = 1e-3
    lr_B: float | None = 1e-3
    lr_gamma: float | None = 1e-3
    """Learning rates of lambda, B and gamma: None is the trainer's, 0 freezes. Never decayed."""
    lr_C: float | None = None
    """The same for C, except that None leaves it among the other weights: the trainer's rate, and decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        one_of("parameterization", self.parameterization, PARAMETERIZATIONS)
        require(self.state >= 1, f"state={self.state} must be at least 1.")
        for name in ("r_min", "r_max"):
            r = getattr(self, name)
            require(0 <= r <= 1, f"{name}={r:g} is a modulus; it must be in [0, 1].")
        require(
            0 < self.max_phase <= 2 * math.pi,
            f"max_phase={self.max_phase:g} is an angle; it must hold that 0 < max_phase <= 2 pi.",
        )
        for name in ("lr_A", "lr_B", "lr_C", "lr_gamma"):
            check_rate(name, getattr(self, name))
        if self.r_min > self.r_max or self.r_min == 1 or self.r_max == 0:
            raise ImpossibleError(f"There is no ring with r_min={self.r_min:g} and r_max={self.r_max:g}.")
        self._refuse_dead_knobs()

    def _refuse_dead_knobs(self) -> None:
        if self.lr_A == 0 and self.parameterization != "stable_exp":
            raise ImpossibleError(
                f"parameterization={self.parameterization!r} says how lambda is trained, but lr_A=0 freezes lambda: "
                "the arm would equal the one with parameterization='stable_exp'."
            )
        if not self.gamma and self.lr_gamma != type(self).lr_gamma:
            raise ImpossibleError(
                f"lr_gamma={self.lr_gamma} is the rate of gamma, which gamma=False leaves out: "
                f"the arm would equal the one with lr_gamma={type(self).lr_gamma}."
            )

    def check(self, width: int) -> None:
        """Any width will do."""

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        caveats = [
            (True, "LRU counts complex modes: state=N is a real state of size 2N, where others have size N."),
            (
                self.parameterization != "stable_exp" and self.lr_A != 0,
                f"parameterization={self.parameterization!r} does not bound |lambda|: training can bring it above 1, "
                "and the state then grows exponentially with length.",
            ),
            (self.bidirectional, SEES_LATER),
        ]
        return [sentence for holds, sentence in caveats if holds]

    def build(self, width: int, seed: int) -> "LRULayer":
        """The layer. Each tensor has its own generator, so arms that differ in lambda start with one B, C and D."""
        return LRULayer(self, width, seed)


class Parameterization(NamedTuple):
    """lambda of the two trained numbers of a mode, and those of lambda = exp(-nu + i theta)."""

    forward: Callable[[Float[Tensor, " N"], Float[Tensor, " N"]], Complex[Tensor, " N"]]
    inverse: Callable[[Float[Tensor, " N"], Float[Tensor, " N"]], tuple[Float[Tensor, " N"], Float[Tensor, " N"]]]


def _complex(a: Tensor, b: Tensor) -> Tensor:
    return torch.complex(a, b)


def _complex_inverse(nu: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    return torch.exp(-nu) * torch.cos(theta), torch.exp(-nu) * torch.sin(theta)


def _exp(nu: Tensor, theta: Tensor) -> Tensor:
    return torch.polar(torch.exp(-nu), theta)


def _exp_inverse(nu: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    return nu, theta


def _stable_exp(nu_log: Tensor, theta_log: Tensor) -> Tensor:
    return _exp(torch.exp(nu_log), torch.exp(theta_log))


def _stable_exp_inverse(nu: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    return torch.log(nu), torch.log(theta)


def ring(
    r_min: float, r_max: float, max_phase: float, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """(nu, theta) of lambda = exp(-nu + i theta), uniform on a sector of a ring: |lambda|^2 and theta are uniform."""
    u = torch.rand(2, count, generator=generator, dtype=torch.float64).clamp(_TINY, 1 - _TINY)
    return -torch.log(u[0] * (r_max**2 - r_min**2) + r_min**2) / 2, max_phase * u[1]


class LRULayer(DiagonalSharedState):
    """The layer that an `LRU` describes."""

    has_step_size = False
    A: Tensor  # parameters, or buffers where the description freezes them
    B: Tensor
    C: Tensor
    gamma_log: Tensor

    def __init__(self, description: LRU, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        nu, theta = ring(d.r_min, d.r_max, d.max_phase, d.state, generator(seed_for(seed, "A")))
        trained = PARAMETERIZATIONS[d.parameterization].inverse(nu, theta)
        self.register_own("A", torch.stack(trained).float(), d.lr_A)
        B = complex_normal((d.state, width), 1 / width, generator(seed_for(seed, "B")))
        self.register_own("B", torch.view_as_real(B.to(torch.cfloat)), d.lr_B)
        if d.gamma:
            self.register_own("gamma_log", torch.log(-torch.expm1(-2 * nu)).float() / 2, d.lr_gamma)
        C = [
            complex_normal((width, d.state), 2 / d.state, generator(seed_for(seed, name)))
            for name in names_of_c(d.bidirectional)
        ]
        self.register_weight("C", torch.view_as_real(torch.stack(C).to(torch.cfloat)), d.lr_C)

    def eigenvalues(self) -> Complex[Tensor, " N"]:
        """Lambda, in complex128."""
        return PARAMETERIZATIONS[self.description.parameterization].forward(*self.A.double())

    def system(self) -> System:
        """Lambda, gamma B and C."""
        B = torch.view_as_complex(self.B.double())
        if self.description.gamma:
            B = torch.exp(self.gamma_log.double())[:, None] * B
        return System(self.eigenvalues(), B, torch.view_as_complex(self.C))

    def spectrum(self) -> Spectrum:
        """N modes, shared by all channels; their conjugates are not in the layer."""
        return Spectrum(self.eigenvalues()[None])


PARAMETERIZATIONS: dict[str, Parameterization] = {
    "complex": Parameterization(_complex, _complex_inverse),  # lambda = a + ib
    "exp": Parameterization(_exp, _exp_inverse),  # lambda = exp(-nu + i theta)
    "stable_exp": Parameterization(_stable_exp, _stable_exp_inverse),  # lambda = exp(-exp(nu_log) + i exp(theta_log))
}

#: From a linear RNN to LRU, one thing at a time, as in the paper: `Axis("model.structure", list(LADDER.values()))`.
LADDER: dict[str, Structure] = {
    "dense": LinearRNN(),
    "complex": LRU(parameterization="complex", gamma=False),
    "exp": LRU(parameterization="exp", gamma=False),
    "stable_exp": LRU(parameterization="stable_exp", gamma=False),
    "ring": LRU(parameterization="stable_exp", gamma=False, r_min=0.9, r_max=0.999),
    "gamma": LRU(parameterization="stable_exp", gamma=True, r_min=0.9, r_max=0.999),
}

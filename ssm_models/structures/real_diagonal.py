"""S4D-Real: a diagonal state matrix whose eigenvalues are real, in real arithmetic.

    x'(t) = A x(t) + B u(t),   y(t) = C x(t) + D u(t)               (Gu et al. 2022, arXiv:2206.11893)

    H   channels (the width)                    N    real modes
    A   (n_ssm, N)  = -f(A_re) < 0              B    (n_ssm, N)
    C   (H, N), N(0, 1), twice if bidirectional D    (H), N(0, 1)
    dt  (H) or (H, N), log-uniform on [dt_min, dt_max]

A mode is one real number: there is no conjugate pair and no factor 2, which the S4 authors' code keeps for real modes
too. A rule may make A_bar negative (bilinear at dt |A| > 2), which has no real logarithm: log A_bar is stored as
log|A_bar| + i pi.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from descriptions import ImpossibleError, check_fields, one_of, require, seed_for
from ssm_models.discretize import GBT, check_discretization, discretize_diagonal
from ssm_models.init import INIT_NAMES, InitWithParameters
from ssm_models.inputs import INPUTS
from ssm_models.projections import INPUT_PROJECTIONS
from ssm_models.structures.copies import check_copies, check_sharing, refuse_equal_copies
from ssm_models.structures.siso import DiagonalSiso, Recurrence
from ssm_models.structures.starts import (
    caveats_of_start,
    refuse_start,
    refuse_transform_of_frozen,
)
from ssm_models.structures.step_size import check_rate, check_step_size, draw_step_size, step_size
from ssm_models.structures.structure import SEES_LATER, Spectrum, draw_skip, generator, names_of_c
from ssm_models.transform import TRANSFORMS


@dataclass(frozen=True, kw_only=True)
class RealDiagonal:
    """The description of an S4D layer with real eigenvalues."""

    state: int = 64
    """N, the number of real modes."""
    init: str | InitWithParameters = "real"
    """Law of the initial eigenvalues: a name in `REAL_INITS`. The laws with parameters are complex: none is allowed."""
    discretization: str | GBT = "zoh"
    """A name in `DISCRETIZATIONS`, or `GBT(alpha)`."""
    real_transform: str = "exp"
    """How A is stored: a name in `TRANSFORMS`."""
    B_init: str = "ones"
    """A name in `REAL_INPUTS`."""
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    """Ends of the log-uniform distribution of the initial step size."""
    dt_tied: bool = True
    """One step size a channel, or one for each of its modes."""
    dt_transform: str = "exp"
    """How dt is stored: a name in `STEP_TRANSFORMS`."""
    bidirectional: bool = False
    """A second C for a kernel that runs backwards in time."""
    n_ssm: int | None = None
    """Independent copies of (A, B), shared out over channels; None is one each. C, dt and D are not tied."""
    lr_A: float | None = 1e-3
    lr_B: float | None = 1e-3
    lr_dt: float | None = 1e-3
    """Learning rates of A, B and dt: None is the trainer's, 0 freezes. Never decayed."""
    lr_C: float | None = None
    """The same for C, except that None leaves it among the other weights: the trainer's rate, and decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.init, str):
            raise ImpossibleError(f"init={self.init} has complex eigenvalues; real ones are {sorted(REAL_INITS)}.")
        one_of("init", self.init, REAL_INITS, elsewhere=INIT_NAMES)
        check_discretization(self.discretization)
        one_of("real_transform", self.real_transform, TRANSFORMS)
        one_of("B_init", self.B_init, REAL_INPUTS, elsewhere={*INPUTS, *INPUT_PROJECTIONS})
        require(self.state >= 1, f"state={self.state} is the number of real modes; it must be at least 1.")
        check_copies(self.n_ssm)
        for name in ("lr_A", "lr_B", "lr_C", "lr_dt"):
            check_rate(name, getattr(self, name))
        check_step_size(self.dt_min, self.dt_max, self.dt_transform, self.lr_dt)
        refuse_transform_of_frozen("real", self.real_transform, "exp", self.lr_A)
        self._refuse_dead_knobs()
        fastest = -REAL_INITS[self.init].fastest(self.state)
        refuse_start(
            self.init,
            lambda: torch.tensor([fastest + 0j], dtype=torch.complex128),
            {"real": self.real_transform},
            self.discretization,
            self.dt_max,
        )

    def _refuse_dead_knobs(self) -> None:
        varied = self.init == "rand" or self.B_init == "normal"
        frozen = self.lr_A == 0 and self.lr_B == 0
        refuse_equal_copies(self.n_ssm, self.init, frozen=frozen, varied=varied)
        if not self.dt_tied and self.dt_min == self.dt_max and self.lr_dt == 0:
            raise ImpossibleError(
                "dt_tied=False gives each mode a step of its own, but dt_min=dt_max starts them equal and lr_dt=0 "
                "freezes them: the arm would equal the one with dt_tied=True."
            )

    def check(self, width: int) -> None:
        """Raise `ImpossibleError` unless the copies of (A, B) can be shared out evenly."""
        check_sharing(self.n_ssm, width)

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        sentences = [
            (
                self.init == "rand",
                "init='rand' draws decay rates here, A = -exp(g); in the complex structures it draws frequencies.",
            ),
            *caveats_of_start(self.init, self.real_transform, "none", self.discretization),
            (self.bidirectional, SEES_LATER),
        ]
        return [sentence for holds, sentence in sentences if holds]

    def build(self, width: int, seed: int) -> "RealDiagonalLayer":
        """The layer. Each tensor has its own generator, so arms that differ in A start with one C, dt, D."""
        self.check(width)
        return RealDiagonalLayer(self, width, seed)


class RealDiagonalLayer(DiagonalSiso):
    """The layer that a `RealDiagonal` describes."""

    A_re: Tensor  # parameters, or buffers where the description freezes them
    B: Tensor
    C: Tensor
    inv_dt: Tensor

    def __init__(self, description: RealDiagonal, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        copies = d.n_ssm or width
        A = REAL_INITS[str(d.init)].modes(copies, d.state, generator(seed_for(seed, "A")))
        self.register_own("A_re", TRANSFORMS[d.real_transform].inverse(-A).float(), d.lr_A)
        B = REAL_INPUTS[d.B_init](copies, d.state, generator(seed_for(seed, "B")))
        self.register_own("B", B.float(), d.lr_B)
        steps = (width, 1) if d.dt_tied else (width, d.state)
        dt = draw_step_size(steps, d.dt_min, d.dt_max, d.dt_transform, generator(seed_for(seed, "dt")))
        self.register_own("inv_dt", dt, d.lr_dt)
        C = [
            torch.randn(width, d.state, generator=generator(seed_for(seed, name)))
            for name in names_of_c(d.bidirectional)
        ]
        self.register_weight("C", torch.stack(C), d.lr_C)

    def eigenvalues(self) -> Float[Tensor, "H N"]:
        """A = -f(A_re) of each channel, in float64."""
        return self._per_channel(-TRANSFORMS[self.description.real_transform].forward(self.A_re.double()))

    def dt(self) -> Float[Tensor, "H #N"]:
        """Step sizes at the present sampling rate, in float64."""
        return step_size(self.inv_dt, self.description.dt_transform, self.rate)

    def recurrence(self) -> Recurrence:
        """A discretised: log A_bar = log|A_bar| + i arg A_bar, with arg A_bar = 0 or pi."""
        A = self.eigenvalues()
        log_a, gain = discretize_diagonal(
            self.description.discretization, torch.complex(A, torch.zeros_like(A)), self.dt()
        )
        return Recurrence(log_a, gain.real * self._per_channel(self.B.double()), self.C)

    def spectrum(self) -> Spectrum:
        """N real modes of each channel."""
        A = self.eigenvalues()
        return Spectrum(torch.exp(self.recurrence().log_a), torch.complex(A, torch.zeros_like(A)), self.dt())

    def _per_channel(self, tied: Float[Tensor, "copies N"]) -> Float[Tensor, "H N"]:
        return tied.repeat(self.width // tied.shape[0], 1)


def harmonic(copies: int, N: int, generator: torch.Generator) -> Float[Tensor, "copies N"]:
    """S4D-Real: A_n = -(n+1)."""
    return -(torch.arange(N, dtype=torch.float64) + 1).repeat(copies, 1)


def lognormal(copies: int, N: int, generator: torch.Generator) -> Float[Tensor, "copies N"]:
    """A_n = -exp(g), g ~ N(0, 1), independently for each copy."""
    return -torch.exp(torch.randn(copies, N, generator=generator, dtype=torch.float64))


def ones(copies: int, N: int, generator: torch.Generator) -> Float[Tensor, "copies N"]:
    """B = 1."""
    return torch.ones(copies, N)


def normal(copies: int, N: int, generator: torch.Generator) -> Float[Tensor, "copies N"]:
    """B ~ N(0, 1)."""
    return torch.randn(copies, N, generator=generator)


def alternating(copies: int, N: int, generator: torch.Generator) -> Float[Tensor, "copies N"]:
    """B_n = (-1)^n."""
    return (1.0 - 2 * (torch.arange(N) % 2)).repeat(copies, 1)


RealDraw = Callable[[int, int, torch.Generator], Float[Tensor, "copies N"]]


class RealInit(NamedTuple):
    """A law of the initial eigenvalues, and the largest |A| that it can draw at a size N."""

    modes: RealDraw
    fastest: Callable[[int], float]


REAL_INITS: dict[str, RealInit] = {
    "real": RealInit(harmonic, fastest=float),
    "rand": RealInit(lognormal, fastest=lambda N: math.exp(5)),  # |g| > 5 has a chance of 6e-7
}

REAL_INPUTS: dict[str, RealDraw] = {"ones": ones, "normal": normal, "alternating": alternating}

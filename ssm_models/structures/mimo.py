"""S5: one multi-input multi-output system with a diagonal state matrix for all channels.

    x'(t) = A x(t) + B u(t),   y(t) = 2 Re(C x(t)) + D u(t)         (Smith et al. 2023, arXiv:2208.04933)

    H   channels (the width)                     P    real state size; P/2 conjugate modes are stored
    A   (P/2)  = -f(A_re) + i g(A_im)            B    (P/2, H)
    C   (H, P/2), twice that if bidirectional    D    (H), N(0, 1)
    dt  (P/2), log-uniform on [dt_min, dt_max]

Unlike S4D, where dt belongs to a channel, here it belongs to a mode. A starts as J equal blocks, whose eigenvectors V
also make B = V^-1 B' and C = C' V.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from descriptions import ImpossibleError, check_fields, one_of, require, seed_for
from ssm_models.discretize import GBT, check_discretization, discretize_diagonal
from ssm_models.init import RANDOM_INITS, InitWithParameters, check_init, extreme_modes, initial_modes
from ssm_models.inputs import C_INITS, INPUTS
from ssm_models.projections import INPUT_PROJECTIONS, OUTPUT_PROJECTIONS, basis_of
from ssm_models.structures.shared_state import DiagonalSharedState, System
from ssm_models.structures.starts import (
    caveats_of_start,
    refuse_start,
    refuse_transform_of_frozen,
)
from ssm_models.structures.step_size import check_rate, check_step_size, draw_step_size, step_size
from ssm_models.structures.structure import SEES_LATER, Spectrum, draw_skip, generator, names_of_c
from ssm_models.transform import TRANSFORMS


@dataclass(frozen=True, kw_only=True)
class MIMO:
    """The description of an S5 layer. The defaults are those of the authors, with one block instead of eight."""

    state: int = 256
    """P, the REAL state size of all channels together; half as many complex modes are stored."""
    blocks: int = 1
    """J: the initial A is J blocks, each with the law's eigenvalues for size P/J. They are not tied in training."""
    init: str | InitWithParameters = "legs"
    """Law of the initial eigenvalues of a block: a name in `INITS`, `Mixed(...)` or `PTD(...)`."""
    discretization: str | GBT = "zoh"
    """A name in `DISCRETIZATIONS`, or `GBT(alpha)`."""
    real_transform: str = "none"
    imag_transform: str = "none"
    """How Re A and Im A are stored: names in `TRANSFORMS`."""
    B_init: str = "lecun_normal"
    """A name in `INPUT_PROJECTIONS`."""
    C_init: str = "trunc_standard_normal"
    """A name in `OUTPUT_PROJECTIONS`."""
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    """Ends of the log-uniform distribution of the initial step size, which is drawn for each mode."""
    dt_transform: str = "exp"
    """How dt is stored: a name in `STEP_TRANSFORMS`."""
    bidirectional: bool = False
    """A second C, for states that run backwards in time with the same A and B."""
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
        check_init(self.init)
        check_discretization(self.discretization)
        one_of("real_transform", self.real_transform, TRANSFORMS)
        one_of("imag_transform", self.imag_transform, TRANSFORMS)
        one_of("B_init", self.B_init, INPUT_PROJECTIONS, elsewhere=INPUTS)
        one_of("C_init", self.C_init, OUTPUT_PROJECTIONS, elsewhere=C_INITS)
        require(
            self.state >= 2 and self.state % 2 == 0,
            f"state={self.state} is the real state size, kept as conjugate pairs; it must be even and >= 2.",
        )
        require(self.blocks >= 1, f"blocks={self.blocks} must be at least 1.")
        for name in ("lr_A", "lr_B", "lr_C", "lr_dt"):
            check_rate(name, getattr(self, name))
        check_step_size(self.dt_min, self.dt_max, self.dt_transform, self.lr_dt)
        self._refuse_blocks()
        refuse_transform_of_frozen("real", self.real_transform, "none", self.lr_A)
        refuse_transform_of_frozen("imag", self.imag_transform, "none", self.lr_A)
        transforms = {"real": self.real_transform, "imag": self.imag_transform}
        modes = partial(extreme_modes, self.init, self.block_size)
        refuse_start(self.init, modes, transforms, self.discretization, self.dt_max)

    def _refuse_blocks(self) -> None:
        if self.state % (2 * self.blocks):
            raise ImpossibleError(
                f"blocks={self.blocks} does not divide state={self.state} into blocks of even size, as conjugate "
                "pairs need."
            )
        if self.blocks > 1 and self.init in RANDOM_INITS:
            raise ImpossibleError(
                f"blocks={self.blocks} repeats a law of the size of a block, but init={self.init!r} draws every mode "
                "by itself, whatever the size: the arm would equal the one with blocks=1."
            )

    @property
    def block_size(self) -> int:
        """P/J."""
        return self.state // self.blocks

    def check(self, width: int) -> None:
        """Raise `ImpossibleError` unless the init can be shared out over the blocks. Any width will do."""
        if not isinstance(self.init, str):
            self.init.check(self.blocks, self.block_size)

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        caveats = [
            *caveats_of_start(self.init, self.real_transform, self.imag_transform, self.discretization),
            (
                self.init == "real" and self.lr_A != 0,
                "init='real' starts with Im A = 0, but Im A is trained, so modes may come to oscillate.",
            ),
            (self.bidirectional, SEES_LATER),
        ]
        return [sentence for holds, sentence in caveats if holds]

    def build(self, width: int, seed: int) -> "MIMOLayer":
        """The layer. Each tensor has its own generator, so arms that differ in A start with one dt and D."""
        self.check(width)
        return MIMOLayer(self, width, seed)


class MIMOLayer(DiagonalSharedState):
    """The layer that a `MIMO` describes."""

    A_re: Tensor  # parameters, or buffers where the description freezes them
    A_im: Tensor
    B: Tensor
    C: Tensor
    inv_dt: Tensor

    def __init__(self, description: MIMO, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        A = initial_modes(d.init, d.blocks, d.block_size, generator(seed_for(seed, "A"))).flatten()
        self.register_own("A_re", TRANSFORMS[d.real_transform].inverse(-A.real).float(), d.lr_A)
        self.register_own("A_im", TRANSFORMS[d.imag_transform].inverse(A.imag).float(), d.lr_A)
        basis = basis_of(d.init, d.blocks, d.block_size)
        B = INPUT_PROJECTIONS[d.B_init](d.state, width, basis, generator(seed_for(seed, "B")))
        self.register_own("B", torch.view_as_real(B.to(torch.cfloat)), d.lr_B)
        dt = draw_step_size((len(A),), d.dt_min, d.dt_max, d.dt_transform, generator(seed_for(seed, "dt")))
        self.register_own("inv_dt", dt, d.lr_dt)
        C = [
            OUTPUT_PROJECTIONS[d.C_init](d.state, width, basis, generator(seed_for(seed, name)))
            for name in names_of_c(d.bidirectional)
        ]
        self.register_weight("C", torch.view_as_real(torch.stack(C).to(torch.cfloat)), d.lr_C)

    def eigenvalues(self) -> Complex[Tensor, " P"]:
        """A = -f(A_re) + i g(A_im), in complex128."""
        d = self.description
        re = TRANSFORMS[d.real_transform].forward(self.A_re.double())
        im = TRANSFORMS[d.imag_transform].forward(self.A_im.double())
        return torch.complex(-re, im)

    def dt(self) -> Float[Tensor, " P"]:
        """Step sizes at the present sampling rate, in float64."""
        return step_size(self.inv_dt, self.description.dt_transform, self.rate)

    def system(self) -> System:
        """A discretised, and 2 C for the conjugate pairs."""
        log_a, gain = discretize_diagonal(self.description.discretization, self.eigenvalues(), self.dt())
        B = gain[:, None] * torch.view_as_complex(self.B.double())
        return System(torch.exp(log_a), B, 2 * torch.view_as_complex(self.C))

    def spectrum(self) -> Spectrum:
        """P/2 modes, shared by all channels."""
        return Spectrum(self.system().A[None], self.eigenvalues()[None], self.dt()[None])

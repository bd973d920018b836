"""S4D: one single-input single-output system with a diagonal state matrix for each channel.

    x'(t) = A x(t) + B u(t),   y(t) = 2 Re(C x(t)) + D u(t)         (Gu et al. 2022, arXiv:2206.11893)

    H   channels (the width)                    N    real state size; N/2 conjugate modes are stored
    A   (n_ssm, N/2)  = -f(A_re) + i g(A_im)    B    (n_ssm, N/2)
    C   (H, N/2), twice that if bidirectional   D    (H), N(0, 1)
    dt  (H) or (H, N/2), log-uniform on [dt_min, dt_max]

Channel h uses copy h mod n_ssm of (A, B). Complex parameters are stored as real pairs, so that optimisers,
gradient clipping and saved states meet real numbers only.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from descriptions import ImpossibleError, check_fields, one_of, require, seed_for
from ssm_models.discretize import GBT, check_discretization, discretize_diagonal
from ssm_models.init import (
    LAWS,
    InitWithParameters,
    check_init,
    differs_between_copies,
    extreme_modes,
    initial_modes,
)
from ssm_models.inputs import C_INITS, check_b_init, check_c_init, initial_b
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
class Diagonal:
    """The description of an S4D layer. The defaults are those of the authors' S4D-Lin."""

    state: int = 64
    """N, the REAL state size; half as many complex modes are stored."""
    init: str | InitWithParameters = "lin"
    """Law of the initial eigenvalues: a name in `INITS`, `Mixed(...)` or `PTD(...)`."""
    real_scale: float = 1.0
    imag_scale: float = 1.0
    """Factors on the initial Re A and Im A."""
    real_random: bool = False
    """Re A = -U[0, 1] instead of the law's."""
    imag_random: bool = False
    """The law of Im A at indices drawn from U[0, N/2] instead of 0, 1, ..."""
    discretization: str | GBT = "zoh"
    """A name in `DISCRETIZATIONS`, or `GBT(alpha)`."""
    real_transform: str = "exp"
    imag_transform: str = "none"
    """How Re A and Im A are stored: names in `TRANSFORMS`."""
    B_init: str = "ones"
    """A name in `INPUTS`."""
    C_init: str = "normal"
    """A name in `C_INITS`."""
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    """Ends of the log-uniform distribution of the initial step size. The published default, kept here,
    aliases the fastest modes of every law under zoh and dirac: dt |Im A| > pi for some channels."""
    dt_tied: bool = True
    """One step size a channel, or one for each of its modes."""
    dt_transform: str = "exp"
    """How dt is stored: a name in `STEP_TRANSFORMS`."""
    bandlimit: float | None = None
    """Modes faster than this fraction of the sampling limit, dt |Im A| / (2 pi) >= bandlimit / 2, are left out."""
    bidirectional: bool = False
    """A second C for a kernel that runs backwards in time."""
    n_ssm: int | None = None
    """Independent copies of (A, B), shared out over channels; None is one each. C, dt and D are not tied."""
    lr_A: float | None = 1e-3
    lr_B: float | None = 1e-3
    lr_dt: float | None = 1e-3
    """Learning rates of A, B and dt: None is the trainer's, 0 freezes. Never decayed."""
    train_imag: bool = True
    """Whether training moves Im A with Re A, or keeps the frequencies that it starts with."""
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
        check_b_init(self.B_init, self.init)
        check_c_init(self.C_init)
        require(
            self.state >= 2 and self.state % 2 == 0,
            f"state={self.state} is the real state size, kept as conjugate pairs; it must be even and >= 2.",
        )
        check_copies(self.n_ssm)
        for name in ("real_scale", "imag_scale", "bandlimit"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"{name}={value} must be above 0.")
        for name in ("lr_A", "lr_B", "lr_C", "lr_dt"):
            check_rate(name, getattr(self, name))
        check_step_size(self.dt_min, self.dt_max, self.dt_transform, self.lr_dt)
        self._refuse_random_indices()
        self._refuse_dead_knobs()
        transforms = {"real": self.real_transform, "imag": self.imag_transform}
        refuse_start(self.init, self._extreme_modes, transforms, self.discretization, self.dt_max)

    def _refuse_random_indices(self) -> None:
        if self.imag_random and self.init not in LAWS:
            raise ImpossibleError(
                f"imag_random=True draws the index that a law of Im A takes, but init={self.init!r} is not a law of "
                f"the index; those are {sorted(LAWS)}."
            )

    def _refuse_dead_knobs(self) -> None:
        """Fields that change nothing here: such an arm is another one under a second name."""
        refuse_transform_of_frozen("real", self.real_transform, "exp", self.lr_A)
        refuse_transform_of_frozen("imag", self.imag_transform, "none", self.lr_A)
        if not self.train_imag and self.lr_A == 0:
            raise ImpossibleError("train_imag=False freezes Im A, which lr_A=0 freezes already.")
        if not self.train_imag and self.imag_transform != "none":
            raise ImpossibleError(
                f"imag_transform={self.imag_transform!r} says how Im A is trained, but train_imag=False freezes it: "
                "the arm would equal the one with imag_transform='none'."
            )
        for part, drawn in (("real", self.real_random), ("imag", self.imag_random)):
            scale = getattr(self, f"{part}_scale")
            if scale != 1 and not drawn and isinstance(self.init, str):
                start = getattr(extreme_modes(self.init, self.state), part)
                if (start == 0).all():
                    raise ImpossibleError(
                        f"{part}_scale={scale:g} multiplies {part[:2].capitalize()} A, which init={self.init!r} "
                        "starts at 0."
                    )
        if self.init == "fout" and self.real_random and self.B_init != "hippo":
            raise ImpossibleError(
                "init='fout' has the Im A of 'lin' and differs in Re A alone, which real_random=True draws anew: "
                "the arm would equal the one with init='lin'."
            )
        varied = differs_between_copies(self.init) or self.real_random or self.imag_random or self.B_init == "normal"
        frozen = self.lr_A == 0 and self.lr_B == 0
        refuse_equal_copies(self.n_ssm, self.init, frozen=frozen, varied=varied)
        if not self.dt_tied and self.dt_min == self.dt_max and self.lr_dt == 0:
            raise ImpossibleError(
                "dt_tied=False gives each mode a step of its own, but dt_min=dt_max starts them equal and lr_dt=0 "
                "freezes them: the arm would equal the one with dt_tied=True."
            )
        if self.bandlimit is not None:
            fastest = self.dt_max * self._extreme_modes().imag.max().item() / math.pi
            if fastest < self.bandlimit:
                raise ImpossibleError(
                    f"bandlimit={self.bandlimit:g} leaves out no mode: the fastest is at {fastest:.2g} of the sampling "
                    f"limit at dt_max={self.dt_max:g}."
                )

    def _extreme_modes(self) -> Complex[Tensor, " N"]:
        """Initial eigenvalues as far out as this description can draw them."""
        if self.imag_random:
            ends = torch.tensor([0.0, self.state / 2], dtype=torch.float64)
            A = torch.complex(torch.full_like(ends, -0.5), LAWS[str(self.init)](ends, self.state))
        else:
            A = extreme_modes(self.init, self.state)
        if self.real_random:
            A = torch.cat([torch.complex(torch.full_like(A.real, -re), A.imag) for re in (1e-6, 1.0)])
        return torch.complex(self.real_scale * A.real, self.imag_scale * A.imag)

    def check(self, width: int) -> None:
        """Raise `ImpossibleError` unless the copies of (A, B) can be shared out evenly."""
        check_sharing(self.n_ssm, width)
        if not isinstance(self.init, str):
            self.init.check(self.n_ssm or width, self.state)

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        return [sentence for holds, sentence in _caveats(self) if holds]

    def build(self, width: int, seed: int) -> "DiagonalLayer":
        """The layer. Each tensor has its own generator, so arms that differ in A start with one C, dt, D."""
        self.check(width)
        return DiagonalLayer(self, width, seed)


def _caveats(d: Diagonal) -> list[tuple[bool, str]]:
    return [
        (
            d.init == "real" and d.lr_A != 0 and d.train_imag,
            "init='real' starts with Im A = 0, but Im A is trained, so modes may come to oscillate; "
            "train_imag=False keeps them real, and `RealDiagonal` has real modes only.",
        ),
        (
            d.init == "legs" and d.B_init == "ones",
            "init='legs' starts from B = 1; the authors' repository starts it from the HiPPO B (B_init='hippo').",
        ),
        *caveats_of_start(d.init, d.real_transform, d.imag_transform, d.discretization, real_random=d.real_random),
        (d.bidirectional, SEES_LATER),
    ]


class DiagonalLayer(DiagonalSiso):
    """The layer that a `Diagonal` describes."""

    A_re: Tensor  # parameters, or buffers where the description freezes them
    A_im: Tensor
    B: Tensor
    C: Tensor
    inv_dt: Tensor

    def __init__(self, description: Diagonal, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        copies, modes = d.n_ssm or width, d.state // 2
        A = self._initial_a(copies, seed)
        self.register_own("A_re", TRANSFORMS[d.real_transform].inverse(-A.real).float(), d.lr_A)
        self.register_own("A_im", TRANSFORMS[d.imag_transform].inverse(A.imag).float(), d.lr_A if d.train_imag else 0)
        B = initial_b(d.B_init, d.init, copies, d.state, generator(seed_for(seed, "B")))
        self.register_own("B", torch.view_as_real(B.to(torch.cfloat)), d.lr_B)
        steps = (width, 1) if d.dt_tied else (width, modes)
        dt = draw_step_size(steps, d.dt_min, d.dt_max, d.dt_transform, generator(seed_for(seed, "dt")))
        self.register_own("inv_dt", dt, d.lr_dt)
        C = [C_INITS[d.C_init]((width, modes), generator(seed_for(seed, name))) for name in names_of_c(d.bidirectional)]
        self.register_weight("C", torch.view_as_real(torch.stack(C)), d.lr_C)

    def _initial_a(self, copies: int, seed: int) -> Complex[Tensor, "copies N"]:
        d, drawn = self.description, generator(seed_for(seed, "A"))
        A = initial_modes(d.init, copies, d.state, drawn)
        re, im = A.real, A.imag
        if d.real_random:
            re = -torch.rand(re.shape, generator=drawn, dtype=re.dtype)
        if d.imag_random:
            index = d.state / 2 * torch.rand(im.shape, generator=drawn, dtype=im.dtype)
            im = LAWS[str(d.init)](index, d.state)
        return torch.complex(d.real_scale * re, d.imag_scale * im)

    def eigenvalues(self) -> Complex[Tensor, "H N"]:
        """A = -f(A_re) + i g(A_im) of each channel, in complex128."""
        d = self.description
        re = TRANSFORMS[d.real_transform].forward(self.A_re.double())
        im = TRANSFORMS[d.imag_transform].forward(self.A_im.double())
        return self._per_channel(torch.complex(-re, im))

    def dt(self) -> Float[Tensor, "H #N"]:
        """Step sizes at the present sampling rate, in float64."""
        return step_size(self.inv_dt, self.description.dt_transform, self.rate)

    def recurrence(self) -> Recurrence:
        """A discretised, and 2 C for the conjugate pairs."""
        d, A, dt = self.description, self.eigenvalues(), self.dt()
        log_a, gain = discretize_diagonal(d.discretization, A, dt)
        C = 2 * torch.view_as_complex(self.C)
        if d.bandlimit is not None:
            C = C * (dt * A.imag.abs() / math.pi < d.bandlimit)
        return Recurrence(log_a, gain * self._per_channel(torch.view_as_complex(self.B.double())), C)

    def spectrum(self) -> Spectrum:
        """N/2 modes of each channel."""
        A, dt = self.eigenvalues(), self.dt()
        return Spectrum(torch.exp(self.recurrence().log_a), A, dt)

    def _per_channel(self, tied: Complex[Tensor, "copies N"]) -> Complex[Tensor, "H N"]:
        return tied.repeat(self.width // tied.shape[0], 1)

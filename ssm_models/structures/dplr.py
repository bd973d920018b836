"""S4: one single-input single-output system with a diagonal-plus-low-rank state matrix for each channel.

    x'(t) = (Lambda - P P^*) x(t) + B u(t),   y(t) = 2 Re(C x(t)) + D u(t)

    H       channels (the width)              N   real state size; n = N/2 conjugate modes are stored
    Lambda  (n_ssm, n) = -f(A_re) + i A_im    P   (n_ssm, R, n), coupling as  P_r 2 Re(P_r^* x)
    B       (n_ssm, n)                        C   (H, n), twice that if bidirectional
    dt      (H), log-uniform                  D   (H), N(0, 1)

(Gu et al. 2022, arXiv:2111.00396, with P P^* for P Q^*, which keeps it stable: Goel et al. 2022, arXiv:2202.09729).
A HiPPO matrix has this form exactly, in the eigenbasis of its normal part. The rule is bilinear, whose resolvent keeps
the term of low rank; an exponential does not. Channel h uses copy h mod n_ssm of (Lambda, P, B).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from descriptions import ImpossibleError, check_fields, one_of, require, seed_for
from ssm_models.discretize import discretize_diagonal
from ssm_models.hippo import HIPPO, normal_form
from ssm_models.init import INIT_NAMES, INITS, InitWithParameters, Mixed
from ssm_models.inputs import C_INITS, check_c_init
from ssm_models.structures.copies import check_copies, check_sharing, refuse_equal_copies
from ssm_models.structures.dense_siso import DenseRecurrence, DenseSiso, block_diagonal, far_from_normal
from ssm_models.structures.step_size import check_rate, check_step_size, draw_step_size, step_size
from ssm_models.structures.structure import SEES_LATER, Spectrum, Stepper, draw_skip, generator, names_of_c
from ssm_models.transform import TRANSFORMS
from ssm_models.woodbury import LowRankSystem, woodbury_kernel

# Steps from which a kernel by powers of the dense transition is faster than by Woodbury's identity, in units of N^3:
# the one costs N^3 log L, the other L log L. Measured on a CPU.
_DENSE_FROM = 1 / 32


class Start(NamedTuple):
    """Initial Lambda, P and B, for each copy."""

    Lambda: Complex[Tensor, "copies n"]
    P: Complex[Tensor, "copies R n"]
    B: Complex[Tensor, "copies n"]


def hippo(name: str) -> Callable[[int, int, torch.Generator], Start]:
    """A HiPPO matrix and its B, exactly."""

    def start(copies: int, N: int, generator: torch.Generator) -> Start:
        form = normal_form(name, N)
        return Start(form.Lambda.repeat(copies, 1), form.P.repeat(copies, 1, 1), form.B.repeat(copies, 1))

    return start


def rand(copies: int, N: int, generator: torch.Generator) -> Start:
    """A control: Lambda = -1/2 + i exp(g) with g ~ N(0, 1), P complex normal with E|P|^2 = 1, B = 1. Rank 1."""
    Lambda = INITS["rand"](copies, N, generator)
    P = torch.randn(copies, 1, N // 2, generator=generator, dtype=torch.complex128)
    return Start(Lambda, P, torch.ones_like(Lambda))


#: Init -> its parts. Of rank 1 but for `legt`, which has rank 2.
STARTS: dict[str, Callable[[int, int, torch.Generator], Start]] = {
    **{name: hippo(name) for name in HIPPO},
    "rand": rand,
}


@dataclass(frozen=True, kw_only=True)
class DPLR:
    """The description of an S4 layer."""

    state: int = 64
    """N, the REAL state size; half as many complex modes are stored."""
    init: str | InitWithParameters = "legs"
    """A name in `STARTS`, or `Mixed(...)` of those, as legs/fout in "How to Train Your HiPPO" (arXiv:2206.12037)."""
    real_transform: str = "exp"
    """How Re Lambda is stored: a name in `TRANSFORMS`. Im Lambda is stored as it is."""
    C_init: str = "normal"
    """A name in `C_INITS`."""
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    """Ends of the log-uniform distribution of the initial step size."""
    dt_transform: str = "exp"
    """How dt is stored: a name in `STEP_TRANSFORMS`."""
    bidirectional: bool = False
    """A second C for a kernel that runs backwards in time."""
    n_ssm: int | None = None
    """Independent copies of (Lambda, P, B), shared out over channels; None is one each. C, dt and D are not tied."""
    lr_A: float | None = 1e-3
    """Learning rate of Lambda and P: None is the trainer's, 0 freezes. Never decayed."""
    lr_B: float | None = 1e-3
    lr_dt: float | None = 1e-3
    """The same for B and dt."""
    lr_C: float | None = None
    """The same for C, except that None leaves it among the other weights: the trainer's rate, and decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.init, str | Mixed):
            raise ImpossibleError(f"init={self.init} has no low-rank term; those with one are {sorted(STARTS)}.")
        for name in self._laws():
            one_of("init", name, STARTS, elsewhere=INIT_NAMES)
        one_of("real_transform", self.real_transform, TRANSFORMS)
        check_c_init(self.C_init)
        require(
            self.state >= 4 and self.state % 2 == 0,
            f"state={self.state} is the real state size, kept as conjugate pairs; it must be even and >= 4.",
        )
        check_copies(self.n_ssm)
        for name in ("lr_A", "lr_B", "lr_C", "lr_dt"):
            check_rate(name, getattr(self, name))
        check_step_size(self.dt_min, self.dt_max, self.dt_transform, self.lr_dt)
        self._refuse_dead_knobs()

    def _laws(self) -> tuple[str, ...]:
        return self.init.laws if isinstance(self.init, Mixed) else (str(self.init),)

    def _undamped(self) -> bool:
        """Whether Re Lambda = 0 at the start, in some copy."""
        return not set(self._laws()) <= {"legs", "rand"}

    def _refuse_dead_knobs(self) -> None:
        exact = self.real_transform == "none" and self._undamped()  # the others lift Re Lambda = 0
        if self.lr_A == 0 and self.real_transform != "exp" and not exact:
            raise ImpossibleError(
                f"real_transform={self.real_transform!r} says how A is trained, but lr_A=0 freezes A: "
                "the arm would equal the one with real_transform='exp'."
            )
        if self.real_transform == "relu" and not set(self._laws()) & {"legs", "rand"}:
            raise ImpossibleError(
                f"real_transform='relu' has no gradient at 0, where init={self.init!r} starts Re Lambda: "
                "it would never be trained."
            )
        varied = self.init == "rand" or isinstance(self.init, Mixed)
        frozen = self.lr_A == 0 and self.lr_B == 0
        refuse_equal_copies(self.n_ssm, self.init, frozen=frozen, varied=varied)

    def check(self, width: int) -> None:
        """Raise `ImpossibleError` unless the copies of (A, B) can be shared out evenly."""
        check_sharing(self.n_ssm, width)
        if isinstance(self.init, Mixed):
            self.init.check(self.n_ssm or width, self.state)

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        caveats = [
            (
                self._undamped() and self.real_transform != "none",
                f"init={self.init!r} has Re Lambda = 0, which real_transform={self.real_transform!r} lifts to -1e-4: "
                "only with 'none' is it the HiPPO matrix exactly.",
            ),
            (
                self.real_transform == "none",
                "real_transform='none' does not bound Re Lambda: training can make it positive, and the state "
                "may then grow exponentially with length.",
            ),
            (
                self.real_transform == "relu",
                "real_transform='relu' has no gradient below 0: a mode that gets there stays at -1e-4.",
            ),
            (
                isinstance(self.init, Mixed) and "legt" in self._laws(),
                f"init={self.init!r}: legt has rank 2, so the other laws have a second P too; it is 0, where its "
                "gradient is 0, and stays there.",
            ),
            (self.bidirectional, SEES_LATER),
        ]
        return [sentence for holds, sentence in caveats if holds]

    def build(self, width: int, seed: int) -> "DPLRLayer":
        """The layer. Each tensor has its own generator, so arms that differ in A start with one C, dt, D."""
        self.check(width)
        return DPLRLayer(self, width, seed)


class DPLRLayer(DenseSiso):
    """The layer that a `DPLR` describes. Its state is real, (B, H, N): Re x_0, Im x_0, Re x_1, ..."""

    A_re: Tensor  # parameters, or buffers where the description freezes them
    A_im: Tensor
    P: Tensor
    B: Tensor
    C: Tensor
    inv_dt: Tensor

    def __init__(self, description: DPLR, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        laws, for_a = d._laws(), generator(seed_for(seed, "A"))
        starts = [STARTS[law]((d.n_ssm or width) // len(laws), d.state, for_a) for law in laws]
        rank = max(start.P.shape[1] for start in starts)
        Lambda, B = torch.cat([start.Lambda for start in starts]), torch.cat([start.B for start in starts])
        P = torch.cat([torch.nn.functional.pad(s.P, (0, 0, 0, rank - s.P.shape[1])) for s in starts])
        self.register_own("A_re", TRANSFORMS[d.real_transform].inverse(-Lambda.real).float(), d.lr_A)
        self.register_own("A_im", Lambda.imag.float(), d.lr_A)
        self.register_own("P", torch.view_as_real(P.to(torch.cfloat)), d.lr_A)
        self.register_own("B", torch.view_as_real(B.to(torch.cfloat)), d.lr_B)
        dt = draw_step_size((width, 1), d.dt_min, d.dt_max, d.dt_transform, generator(seed_for(seed, "dt")))
        self.register_own("inv_dt", dt, d.lr_dt)
        names = names_of_c(d.bidirectional)
        C = [C_INITS[d.C_init]((width, d.state // 2), generator(seed_for(seed, name))) for name in names]
        self.register_weight("C", torch.view_as_real(torch.stack(C)), d.lr_C)

    def system(self) -> LowRankSystem:
        """The continuous-time system of each channel; all but C in double precision."""
        re = TRANSFORMS[self.description.real_transform].forward(self.A_re.double())
        P, B = (self._per_channel(torch.view_as_complex(x.double())) for x in (self.P, self.B))
        dt = step_size(self.inv_dt, self.description.dt_transform, self.rate)
        Lambda = self._per_channel(torch.complex(-re, self.A_im.double()))
        return LowRankSystem(Lambda, P, B, torch.view_as_complex(self.C), dt)

    def kernels(self, length: int) -> Float[Tensor, "S {length} H"]:
        """By Woodbury's identity, or by powers of the dense transition where it is so small that they cost less."""
        if length >= _DENSE_FROM * self.description.state**3:
            return super().kernels(length)
        return woodbury_kernel(self.system(), length)

    def transition(self) -> "Transition":
        """The discrete system, with its low-rank term: O(N) numbers.

        x_k = (1 - dt A/2)^-1 ((1 + dt A/2) x_{k-1} + dt B u_k) is, by Woodbury's identity, the diagonal system with the
        mean of the old and the new P^* x fed back:

            x_k = a x_{k-1} + b u_k - g w_k,   w_k = P^* (x_{k-1} + x_k) / 2,   g = dt (1 - dt Lambda/2)^-1 P
        """
        Lambda, P, B, _, dt = self.system()
        log_a, gain = discretize_diagonal("bilinear", Lambda, dt)
        a, b, g, rows = torch.exp(log_a), gain * B, gain[:, None] * P, P.conj()
        size = (rows[:, :, None] * g[:, None]).sum(dim=-1).real  # P^* g / 2, as the other half of each pair doubles it
        inverse = torch.linalg.inv(torch.eye(size.shape[1], dtype=size.dtype, device=size.device) + size)
        from_state = inverse.to(rows.dtype) @ (rows * (1 + a[:, None]) / 2)
        from_input = (inverse @ (rows * b[:, None]).sum(dim=-1, keepdim=True).real)[..., 0]
        return Transition(a, b - (g * from_input[..., None]).sum(dim=1), g, from_state)

    def recurrence(self) -> DenseRecurrence:
        """The same as dense matrices on the real state."""
        a, b, g, rows = self.transition()
        A = block_diagonal(a) - 2 * torch.einsum("hri,hrj->hij", _real(g), _real(rows.conj()))
        return DenseRecurrence(A, _real(b), 2 * _real(torch.view_as_complex(self.C).conj()))

    def stepper(self) -> Stepper:
        """x = a x + b u - g 2 Re(f x), y = 2 Re(C x) + D u, in O(N): the dense matrix costs O(N^2).

        In the eigenbasis of A it would be a single product, but not in single precision, nor for most HiPPO matrices in
        double: the condition number of the eigenvectors of legs exceeds 1e19 at N = 32.
        """
        self.require_recurrence()
        C = 2 * torch.view_as_complex(self.C)[0]
        a, b, g, rows = (x.to(C.dtype) for x in self.transition())

        def step(u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            x = torch.view_as_complex(state.view(*state.shape[:-1], -1, 2))
            w = 2 * (rows * x[:, :, None]).sum(dim=-1, keepdim=True).real
            x = a * x + b * u[..., None] - (g * w).sum(dim=2)
            return self.with_skip((C * x).sum(dim=-1).real, u), _real(x)

        return step

    def spectrum(self) -> Spectrum:
        """All N eigenvalues of Lambda - P P^* of each channel, since it may have real ones; those of HiPPO are inexact.

        A change of A by rounding can move those of legs by their own size. They keep Re < 0, as A + A^T < 0.
        """
        system = self.system()
        Lambda, P = system.Lambda.detach(), system.P.detach()
        dense = block_diagonal(Lambda) - 2 * torch.einsum("hri,hrj->hij", _real(P), _real(P))
        A = torch.linalg.eigvals(dense)
        log_a, _ = discretize_diagonal("bilinear", A, system.dt)
        return Spectrum(torch.exp(log_a), A, system.dt, far_from_normal(dense))

    def _per_channel(self, tied: Tensor) -> Tensor:
        return tied.repeat(self.width // tied.shape[0], *[1] * (tied.dim() - 1))


class Transition(NamedTuple):
    """x_k = a x_{k-1} + b u_k - sum_r g_r 2 Re(f_r x_{k-1}), on one mode of each conjugate pair."""

    a: Complex[Tensor, "H n"]
    b: Complex[Tensor, "H n"]
    g: Complex[Tensor, "H R n"]
    f: Complex[Tensor, "H R n"]


def _real(x: Complex[Tensor, "*S n"]) -> Float[Tensor, "*S N"]:
    """Re x_0, Im x_0, Re x_1, ..."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)

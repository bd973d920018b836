"""LSSL: one single-input single-output system with a dense state matrix for each channel.

    x'(t) = A x(t) + B u(t),   y(t) = C x(t) + D u(t)              (Gu et al. 2021, arXiv:2110.13985), all real

    H   channels (the width)                  N    state size
    A   (n_ssm, N, N)                         B    (n_ssm, N)
    C   (H, N), twice that if bidirectional   D    (H), N(0, 1)
    dt  (H), log-uniform on [dt_min, dt_max]

Channel h uses copy h mod n_ssm of (A, B). It is what the other structures approximate, and what they are tested
against: from one seed, a `Dense` layer starts as the same function as

    `Diagonal`   for a law of the modes, of which A has one 2 x 2 block [[Re, -Im], [Im, Re]] each
    `DPLR`       for a HiPPO matrix under bilinear

as B and C start from the same draws, one number a conjugate pair, z, in coordinates  x = 2 Re(V z)  with [V, conj V]
unitary. C of independent complex normals with E|C|^2 = 1 becomes real normals N(0, 1), and B = 1 on 2 x 2 blocks
becomes 1.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from descriptions import ImpossibleError, check_fields, require, seed_for
from ssm_models.discretize import GBT, check_discretization, discretize_dense, discretize_diagonal
from ssm_models.hippo import HIPPO, normal_form
from ssm_models.init import INIT_NAMES, INITS, InitWithParameters, Mixed, check_init
from ssm_models.inputs import C_INITS, check_b_init, check_c_init, initial_b
from ssm_models.structures.copies import check_copies, check_sharing, refuse_equal_copies
from ssm_models.structures.dense_siso import DenseRecurrence, DenseSiso, block_diagonal, far_from_normal
from ssm_models.structures.starts import may_be_unstable
from ssm_models.structures.step_size import check_rate, check_step_size, draw_step_size, step_size
from ssm_models.structures.structure import SEES_LATER, Spectrum, draw_skip, generator, names_of_c

#: Initial B that are phases of modes: a random matrix has none.
PHASES = ("alternating", "clockwise", "counterclockwise")
# 2^14 steps, and an entry of the transition's powers that says it has blown up by then. Rules that are stable at
# every step size keep them below 1, as A + A^T <= 0 for the HiPPO matrices and the laws.
_SQUARINGS, _BLOWN_UP = 14, 1e3


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The description of an LSSL layer. The defaults are HiPPO-LegS under bilinear, trained."""

    state: int = 64
    """N, the real state size. A kernel costs N^3 log L."""
    init: str | InitWithParameters = "legs"
    """Initial A: a HiPPO matrix, a law of its eigenvalues in 2 x 2 blocks, `rand`, or `Mixed(...)` of those."""
    discretization: str | GBT = "bilinear"
    """A name in `DISCRETIZATIONS`, or `GBT(alpha)`. Those with e^{dt A} cost a matrix exponential a channel."""
    B_init: str = "hippo"
    """A name in `INPUTS`."""
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
        if not isinstance(self.init, str | Mixed):
            raise ImpossibleError(f"init={self.init} is for diagonal structures; a dense A is {sorted(INIT_NAMES)}.")
        for name in self._laws():
            check_init(name, dict.fromkeys(INIT_NAMES, INITS["lin"]))
            check_b_init(self.B_init, name)
        check_discretization(self.discretization)
        check_c_init(self.C_init)
        require(
            self.state >= 4 and self.state % 2 == 0,
            f"state={self.state}: B, C and the laws of A are those of conjugate pairs; it must be even and >= 4.",
        )
        check_copies(self.n_ssm)
        for name in ("lr_A", "lr_B", "lr_C", "lr_dt"):
            check_rate(name, getattr(self, name))
        check_step_size(self.dt_min, self.dt_max, self.dt_transform, self.lr_dt)
        self._refuse_dead_knobs()
        for name in self._laws():
            self._refuse_blow_up(name)

    def _laws(self) -> tuple[str, ...]:
        return self.init.laws if isinstance(self.init, Mixed) else (str(self.init),)

    def _refuse_dead_knobs(self) -> None:
        if "rand" in self._laws() and self.B_init in PHASES:
            raise ImpossibleError(
                f"B_init={self.B_init!r} gives each mode of A a phase, but init='rand' has no modes to start with."
            )
        varied = self.init == "rand" or isinstance(self.init, Mixed) or self.B_init == "normal"
        frozen = self.lr_A == 0 and self.lr_B == 0
        refuse_equal_copies(self.n_ssm, self.init, frozen=frozen, varied=varied)

    def _refuse_blow_up(self, law: str) -> None:
        if not may_be_unstable(self.discretization):
            return
        for dt in (self.dt_min, self.dt_max):
            if not (largest := largest_entry(law, self.state, self.discretization, dt)) < _BLOWN_UP:
                raise ImpossibleError(
                    f"discretization={self.discretization!r} is unstable for init={law!r} with state={self.state} at "
                    f"dt={dt:g}: within {2**_SQUARINGS} steps the state grows by {largest:.2g}."
                )

    def check(self, width: int) -> None:
        """Raise `ImpossibleError` unless the copies of (A, B) can be shared out evenly."""
        check_sharing(self.n_ssm, width)
        if isinstance(self.init, Mixed):
            self.init.check(self.n_ssm or width, self.state)

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        caveats = [
            (
                "rand" in self._laws(),
                "init='rand' draws a matrix here, shifted so that its slowest mode decays as e^{-t/2}; in the diagonal "
                "structures it draws eigenvalues.",
            ),
            (
                self.lr_A != 0,
                "Dense does not bound the eigenvalues of A: training can make one positive, and the state then grows "
                "exponentially with length.",
            ),
            (
                self.lr_A != 0 and not set(self._laws()) <= {*HIPPO, "rand"},
                f"init={self.init!r} starts A as 2 x 2 blocks, but all of A is trained: it does not stay so.",
            ),
            (
                bool(set(self._laws()) & set(HIPPO)) and self.B_init != "hippo",
                f"B_init={self.B_init!r} is not the B of the HiPPO matrix: the state is not its basis.",
            ),
            (
                may_be_unstable(self.discretization),
                f"discretization={self.discretization!r} is stable for small steps only: training can leave that "
                "region.",
            ),
            (
                self.discretization == "dirac",
                "discretization='dirac' has no factor dt in B: at the start its output is about 1/dt times "
                "larger than that of zoh or bilinear.",
            ),
            (self.bidirectional, SEES_LATER),
        ]
        return [sentence for holds, sentence in caveats if holds]

    def build(self, width: int, seed: int) -> "DenseLayer":
        """The layer. Each tensor has its own generator, so arms that differ in A start with one C, dt, D."""
        self.check(width)
        return DenseLayer(self, width, seed)


class Coordinates(NamedTuple):
    """A, and V with x = 2 Re(V z) and [V, conj V] unitary for z with one number a conjugate pair."""

    A: Float[Tensor, "copies N N"]
    V: Complex[Tensor, "N n"]


def initial_matrices(law: str, copies: int, N: int, generator: torch.Generator) -> Coordinates:
    """The dense A of an init, in double precision."""
    if law in HIPPO:
        return Coordinates(HIPPO[law](N).A.repeat(copies, 1, 1), normal_form(law, N).V)
    rotation = torch.tensor([[0.5 + 0.5j], [0.5 - 0.5j]], dtype=torch.complex128)
    V = torch.kron(torch.eye(N // 2, dtype=torch.complex128), rotation)
    if law == "rand":
        return Coordinates(rand(copies, N, generator), V)
    return Coordinates(block_diagonal(INITS[law](copies, N, generator)), V)


def rand(copies: int, N: int, generator: torch.Generator) -> Float[Tensor, "copies N N"]:
    """G - (1/2 + max Re lambda(G)) with G of independent N(0, 1/N): frequencies up to about 1, and Re lambda <= -1/2.

    A control, without structure. The LSSL authors' repository has G of N(0, 1/N^2), which is unstable: half of its
    eigenvalues have a positive real part.
    """
    G = torch.randn(copies, N, N, generator=generator, dtype=torch.float64) / math.sqrt(N)
    shift: Tensor = 0.5 + torch.linalg.eigvals(G).real.amax(dim=-1)
    return G - shift[:, None, None] * torch.eye(N, dtype=torch.float64)


@cache
def largest_entry(law: str, N: int, discretization: str | GBT, dt: float) -> float:
    """Of the initial A_bar^{2^k}, k = 0 .. 14, infinity where it overflows; of one draw, if `law` draws."""
    A = initial_matrices(law, 1, N, generator(0)).A
    power, _ = discretize_dense(discretization, A, torch.tensor([dt], dtype=torch.float64))
    largest = 0.0
    for _ in range(_SQUARINGS + 1):
        largest = max(largest, torch.nan_to_num(power.abs(), nan=math.inf).max().item())
        power = power @ power
    return largest


class DenseLayer(DenseSiso):
    """The layer that a `Dense` describes."""

    A: Tensor  # parameters, or buffers where the description freezes them
    B: Tensor
    C: Tensor
    inv_dt: Tensor

    def __init__(self, description: Dense, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        laws = d._laws()
        share = (d.n_ssm or width) // len(laws)
        for_a, for_b = generator(seed_for(seed, "A")), generator(seed_for(seed, "B"))
        starts = [initial_matrices(law, share, d.state, for_a) for law in laws]
        V = torch.cat([start.V.expand(share, -1, -1) for start in starts])
        B = torch.cat([initial_b(d.B_init, law, share, d.state, for_b) for law in laws])
        self.register_own("A", torch.cat([start.A for start in starts]).float(), d.lr_A)
        self.register_own("B", 2 * (V @ B[..., None])[..., 0].real.float(), d.lr_B)
        dt = draw_step_size((width, 1), d.dt_min, d.dt_max, d.dt_transform, generator(seed_for(seed, "dt")))
        self.register_own("inv_dt", dt, d.lr_dt)
        names = names_of_c(d.bidirectional)
        C = torch.stack([C_INITS[d.C_init]((width, d.state // 2), generator(seed_for(seed, name))) for name in names])
        self.register_weight(
            "C", 2 * (self._per_channel(V).conj() @ C[..., None].to(V.dtype))[..., 0].real.float(), d.lr_C
        )

    def dt(self) -> Float[Tensor, "H 1"]:
        """Step sizes at the present sampling rate, in float64."""
        return step_size(self.inv_dt, self.description.dt_transform, self.rate)

    def recurrence(self) -> DenseRecurrence:
        """A and B discretised."""
        A, B = self._per_channel(self.A.double()), self._per_channel(self.B.double())
        A_bar, gain = discretize_dense(self.description.discretization, A, self.dt()[:, 0])
        return DenseRecurrence(A_bar, (gain @ B[..., None])[..., 0], self.C)

    def spectrum(self) -> Spectrum:
        """All N eigenvalues of each channel, since a real matrix may have real ones; of HiPPO's A they are inexact.

        A change of A by rounding can move those of legs by their own size. They keep Re <= -1/2, as A + A^T <= -1.
        """
        A, dt = self._per_channel(torch.linalg.eigvals(self.A.detach().double())), self.dt()
        log_a, _ = discretize_diagonal(self.description.discretization, A, dt)
        return Spectrum(torch.exp(log_a), A, dt, far_from_normal(self.A.detach().double()))

    def _per_channel(self, tied: Tensor) -> Tensor:
        return tied.repeat(self.width // tied.shape[0], *[1] * (tied.dim() - 1))

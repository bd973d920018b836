"""S4D: one single-input single-output system with a diagonal state matrix for each channel.

    x'(t) = A x(t) + B u(t),   y(t) = 2 Re(C x(t)) + D u(t)         (Gu et al. 2022, arXiv:2206.11893)

    H   channels (the width)                    N    real state size; N/2 conjugate modes are stored
    A   (n_ssm, N/2)  = -f(A_re) + i A_im       B    (n_ssm, N/2), starts at 1
    C   (H, N/2), complex normal, E|C|^2 = 1    D    (H), N(0, 1)
    dt  (H), log-uniform on [dt_min, dt_max], stored as its logarithm

Channel h uses copy h mod n_ssm of (A, B). Complex parameters are stored as real pairs, so that optimisers,
gradient clipping and saved states meet real numbers only.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from descriptions import ImpossibleError, check_fields, one_of, require, seed_for
from ssm_models.discretize import DISCRETIZATIONS
from ssm_models.init import INITS, RANDOM_INITS
from ssm_models.kernel import convolve, vandermonde
from ssm_models.scan import sequential
from ssm_models.structures.structure import SSM
from ssm_models.transform import TRANSFORMS


@dataclass(frozen=True, kw_only=True)
class Diagonal:
    """The description of an S4D layer. The defaults are those of the authors' S4D-Lin."""

    state: int = 64
    """N, the REAL state size; half as many complex modes are stored."""
    init: str = "lin"
    """Law of the initial eigenvalues: a name in `INITS`."""
    discretization: str = "zoh"
    """A name in `DISCRETIZATIONS`."""
    real_transform: str = "exp"
    """How Re A is stored: a name in `TRANSFORMS`."""
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    """Ends of the log-uniform distribution of the initial step size. The published default, kept here,
    aliases the fastest modes of every law under zoh and dirac: dt |Im A| > pi for some channels."""
    n_ssm: int | None = None
    """Independent copies of (A, B), shared out over channels; None is one each. C, dt and D are not tied."""
    lr_A: float | None = 1e-3
    lr_B: float | None = 1e-3
    lr_dt: float | None = 1e-3
    """Learning rates of A, B and dt: None is the trainer's, 0 freezes. Never decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        one_of("init", self.init, INITS)
        one_of("discretization", self.discretization, DISCRETIZATIONS)
        one_of("real_transform", self.real_transform, TRANSFORMS)
        require(
            self.state >= 2 and self.state % 2 == 0,
            f"state={self.state} is the real state size, kept as conjugate pairs; it must be even and >= 2.",
        )
        require(
            0 < self.dt_min <= self.dt_max < math.inf,
            f"dt_min={self.dt_min:g}, dt_max={self.dt_max:g}: it must hold that 0 < dt_min <= dt_max.",
        )
        require(self.n_ssm is None or self.n_ssm >= 1, f"n_ssm={self.n_ssm} must be at least 1, or None.")
        for name in ("lr_A", "lr_B", "lr_dt"):
            rate = getattr(self, name)
            require(
                rate is None or 0 <= rate < math.inf,
                f"{name}={rate} is a learning rate; it must be >= 0 (0 freezes), or None for the trainer's.",
            )
        self._refuse_dead_knobs()

    def _refuse_dead_knobs(self) -> None:
        """Two fields can change nothing once A is frozen: such an arm is another one under a second name."""
        if self.lr_A == 0 and self.real_transform != "exp":
            raise ImpossibleError(
                f"real_transform={self.real_transform!r} says how Re A is trained, but lr_A=0 freezes A: "
                "the arm would equal the one with real_transform='exp'."
            )
        if self.n_ssm is not None and self.lr_A == 0 and self.lr_B == 0 and self.init not in RANDOM_INITS:
            raise ImpossibleError(
                f"n_ssm={self.n_ssm} ties copies of (A, B), but init={self.init!r} starts all of them equal "
                "and lr_A=0, lr_B=0 freeze them: the arm would equal the one with n_ssm=None."
            )

    def check(self, width: int) -> None:
        """Raise `ImpossibleError` unless the copies of (A, B) can be shared out evenly."""
        if self.n_ssm is not None and width % self.n_ssm:
            raise ImpossibleError(f"n_ssm={self.n_ssm} does not divide width={width}.")

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        says: list[tuple[bool, str]] = [
            (
                self.init == "real" and self.lr_A != 0,
                "init='real' starts with Im A = 0, but Im A is trained, so modes may come to oscillate; "
                "lr_A=0 keeps them real.",
            ),
            (
                self.init == "legs",
                "init='legs' starts from B = 1; the authors' repository starts it from the HiPPO B.",
            ),
            (
                self.real_transform == "none",
                "real_transform='none' does not bound Re A: training can make it positive, and the kernel "
                "then grows exponentially with length.",
            ),
            (
                self.real_transform == "relu",
                "real_transform='relu' has no gradient below 0: a mode that gets there stays at -1e-4.",
            ),
            (
                self.discretization == "dirac",
                "discretization='dirac' has no factor dt in B: at the start its output is about 1/dt times "
                "larger than that of zoh or bilinear.",
            ),
        ]
        return [sentence for holds, sentence in says if holds]

    def build(self, width: int, seed: int) -> "DiagonalSSM":
        """The layer. Each tensor has its own generator, so arms that differ in A start with one C, dt, D."""
        self.check(width)
        return DiagonalSSM(self, width, seed)


class DiagonalSSM(SSM):
    """The layer that a `Diagonal` describes."""

    A_re: Tensor  # parameters, or buffers where the description freezes them
    A_im: Tensor
    B: Tensor
    log_dt: Tensor

    def __init__(self, description: Diagonal, width: int, seed: int) -> None:
        super().__init__()
        self.description, self.width = description, width
        copies, modes = description.n_ssm or width, description.state // 2

        def generator(name: str) -> torch.Generator:
            return torch.Generator().manual_seed(seed_for(seed, name))

        A = INITS[description.init](copies, description.state, generator("A"))
        A_re = TRANSFORMS[description.real_transform].inverse(-A.real)
        self.register_own("A_re", A_re.float(), description.lr_A)
        self.register_own("A_im", A.imag.float(), description.lr_A)
        B = torch.ones(copies, modes, dtype=torch.cfloat)
        self.register_own("B", torch.view_as_real(B), description.lr_B)
        low, high = math.log(description.dt_min), math.log(description.dt_max)
        log_dt = low + (high - low) * torch.rand(width, generator=generator("dt"))
        self.register_own("log_dt", log_dt, description.lr_dt)
        C = torch.randn(width, modes, generator=generator("C"), dtype=torch.cfloat)
        self.C = nn.Parameter(torch.view_as_real(C))
        D = torch.randn(width, generator=generator("D"))
        self.D = nn.Parameter(D) if description.skip else None

    def eigenvalues(self) -> Complex[Tensor, "H N"]:
        """A = -f(A_re) + i A_im of each channel, in complex128."""
        magnitude = TRANSFORMS[self.description.real_transform].forward(self.A_re.double())
        return self._per_channel(torch.complex(-magnitude, self.A_im.double()))

    def discrete(self) -> tuple[Complex[Tensor, "H N"], Complex[Tensor, "H N"]]:
        """(log A_bar, B_bar) of each channel.

        In complex128, cheap at this size: the kernel multiplies log A_bar, and with it its error, by up to L.
        """
        dt = torch.exp(self.log_dt.double())[:, None]
        log_a, scale = DISCRETIZATIONS[self.description.discretization](self.eigenvalues(), dt)
        B = torch.view_as_complex(self.B.double())
        return log_a, scale * self._per_channel(B)

    def kernel(self, length: int) -> Float[Tensor, "{length} H"]:
        """K_l = 2 Re(C A_bar^l B_bar), without D, in the precision of the parameters."""
        log_a, b_bar = self.discrete()
        C = torch.view_as_complex(self.C)
        return vandermonde((C * b_bar).to(C.dtype), log_a, length)

    def forward(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """y = K * u + D u by FFT. D u is the convolution with D at tap 0, so it joins the kernel there."""
        kernel = self.kernel(u.shape[1])
        if self.D is not None:
            kernel = torch.cat([kernel[:1] + self.D, kernel[1:]])
        return convolve(u, kernel)

    def initial_state(self, batch: int) -> Complex[Tensor, "B H N"]:
        """Zeros."""
        C = torch.view_as_complex(self.C)
        return torch.zeros(batch, *C.shape, dtype=C.dtype, device=C.device)

    def step(
        self, u: Float[Tensor, "B H"], state: Complex[Tensor, "B H N"]
    ) -> tuple[Float[Tensor, "B H"], Complex[Tensor, "B H N"]]:
        """x = A_bar x + B_bar u, y = 2 Re(C x) + D u."""
        a_bar, b_bar = self._recurrence()
        state = a_bar * state + b_bar * u[..., None]
        return self._output(state, u), state

    def scan(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """`step` over the whole sequence from the initial state."""
        a_bar, b_bar = self._recurrence()
        states = sequential(a_bar, b_bar * u[..., None], self.initial_state(u.shape[0]))
        return self._output(states, u)

    def _recurrence(self) -> tuple[Complex[Tensor, "H N"], Complex[Tensor, "H N"]]:
        log_a, b_bar = self.discrete()
        dtype = torch.view_as_complex(self.C).dtype
        return torch.exp(log_a).to(dtype), b_bar.to(dtype)

    def _output(self, x: Complex[Tensor, "*S H N"], u: Float[Tensor, "*S H"]) -> Float[Tensor, "*S H"]:
        y = 2 * (torch.view_as_complex(self.C) * x).sum(dim=-1).real
        if self.D is not None:
            y = y + self.D * u
        return y.to(u.dtype)

    def _per_channel(self, tied: Complex[Tensor, "copies N"]) -> Complex[Tensor, "H N"]:
        return tied.repeat(self.width // tied.shape[0], 1)

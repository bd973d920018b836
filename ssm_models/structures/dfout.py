"""S4D-DFouT: poles of the discrete system, spread over the frequencies of the discrete Fourier transform.

    x_k = a x_{k-1} + u_k,   y_k = 2 Re(C x_k) + D u_k,   a_n = e^{-xi/2} e^{i Omega_n}
                                                    (Solozabal et al. 2025, arXiv:2508.20441)
    H      channels (the width)          N       real state size; N/2 conjugate modes are stored
    Omega  (H, N/2), in radians a step   C       (H, N/2), twice that if bidirectional
    xi     (H), log-uniform              D       (H), N(0, 1)

There is no dt and nothing to discretise: frequency and decay do not scale together, and no pole aliases. As in the
paper xi damps all modes of a channel alike, and the poles stored are those of the half circle [0, pi): one fewer than
its N/2 + 1, as N/2 pairs make a real state of N.

    frequencies   Omega of mode n = 0 .. N/2 - 1 in channel h = 0 .. H - 1
    interleaved   2 pi (n + h/H) / N: H N/2 different ones, each channel with its share of every band
    uniform       2 pi n / N: every channel the same
    batched       2 pi (h N/2 + n) / (H N): the same H N/2 as interleaved, each channel with a band
    token         2 pi / (n + 1): periods of 1, 2, ... steps
    random        U[0, 2 pi)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from descriptions import check_fields, one_of, require, seed_for
from ssm_models.inputs import C_INITS, check_c_init
from ssm_models.structures.siso import DiagonalSiso, Recurrence
from ssm_models.structures.step_size import check_rate
from ssm_models.structures.structure import SEES_LATER, Spectrum, draw_skip, generator, names_of_c


@dataclass(frozen=True, kw_only=True)
class DFouT:
    """The description of an S4D-DFouT layer."""

    state: int = 64
    """N, the REAL state size; half as many complex modes are stored."""
    frequencies: str = "interleaved"
    """Law of the initial Omega: a name in `FREQUENCIES`."""
    xi_min: float = 1e-3
    xi_max: float = 1e-1
    """Ends of the log-uniform distribution of the initial damping: a mode loses a factor e in 2 / xi steps."""
    C_init: str = "normal"
    """A name in `C_INITS`."""
    bidirectional: bool = False
    """A second C for a kernel that runs backwards in time."""
    lr_A: float | None = 1e-3
    """Learning rate of log xi and Omega: None is the trainer's, 0 freezes. Never decayed."""
    lr_C: float | None = None
    """The same for C, except that None leaves it among the other weights: the trainer's rate, and decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        one_of("frequencies", self.frequencies, FREQUENCIES)
        check_c_init(self.C_init)
        require(
            self.state >= 2 and self.state % 2 == 0,
            f"state={self.state} is the real state size, kept as conjugate pairs; it must be even and >= 2.",
        )
        require(
            0 < self.xi_min <= self.xi_max < math.inf,
            f"xi_min={self.xi_min:g}, xi_max={self.xi_max:g}: it must hold that 0 < xi_min <= xi_max.",
        )
        for name in ("lr_A", "lr_C"):
            check_rate(name, getattr(self, name))

    def check(self, width: int) -> None:
        """Every width will do."""

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        sentences = [
            (
                self.frequencies == "random",
                "frequencies='random' is drawn on the whole circle: with conjugate pairs Omega and -Omega are one "
                "mode with C conjugated.",
            ),
            (self.bidirectional, SEES_LATER),
        ]
        return [sentence for holds, sentence in sentences if holds]

    def build(self, width: int, seed: int) -> "DFouTLayer":
        """The layer. Each tensor has its own generator."""
        return DFouTLayer(self, width, seed)


class DFouTLayer(DiagonalSiso):
    """The layer that a `DFouT` describes."""

    has_step_size = False

    log_xi: Tensor  # parameters, or buffers where the description freezes them
    Omega: Tensor
    C: Tensor

    def __init__(self, description: DFouT, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        low, high = math.log(d.xi_min), math.log(d.xi_max)
        uniform = torch.rand(width, 1, generator=generator(seed_for(seed, "xi")))
        self.register_own("log_xi", low + (high - low) * uniform, d.lr_A)
        Omega = FREQUENCIES[d.frequencies](width, d.state, generator(seed_for(seed, "A")))
        self.register_own("Omega", Omega.float(), d.lr_A)
        C = [
            C_INITS[d.C_init]((width, d.state // 2), generator(seed_for(seed, name)))
            for name in names_of_c(d.bidirectional)
        ]
        self.register_weight("C", torch.view_as_real(torch.stack(C)), d.lr_C)

    def log_poles(self) -> Complex[Tensor, "H N"]:
        """-xi/2 + i Omega, in complex128."""
        Omega = self.Omega.double()
        return torch.complex((-torch.exp(self.log_xi.double()) / 2).expand_as(Omega), Omega)

    def recurrence(self) -> Recurrence:
        """B = 1, and 2 C for the conjugate pairs."""
        log_a = self.log_poles()
        return Recurrence(log_a, torch.ones_like(log_a), 2 * torch.view_as_complex(self.C))

    def spectrum(self) -> Spectrum:
        """N/2 modes of each channel."""
        return Spectrum(torch.exp(self.log_poles()))


def interleaved(H: int, N: int, generator: torch.Generator) -> Float[Tensor, "H modes"]:
    """Omega = 2 pi (n + h/H) / N: the paper's main scheme, its layer-wise initialization."""
    return 2 * math.pi * (_modes(N) + _channels(H) / H) / N


def uniform(H: int, N: int, generator: torch.Generator) -> Float[Tensor, "H modes"]:
    """Omega = 2 pi n / N: the paper's scheme for a single channel."""
    return (2 * math.pi * _modes(N) / N).repeat(H, 1)


def batched(H: int, N: int, generator: torch.Generator) -> Float[Tensor, "H modes"]:
    """Omega = 2 pi (h N/2 + n) / (H N): bands of N/2 neighbours."""
    return 2 * math.pi * (_channels(H) * (N // 2) + _modes(N)) / (H * N)


def token(H: int, N: int, generator: torch.Generator) -> Float[Tensor, "H modes"]:
    """Omega = 2 pi / p for periods of p = 1, 2, ..., N/2 steps; p = 1 is 2 pi, which is 0."""
    return torch.remainder(2 * math.pi / (_modes(N) + 1), 2 * math.pi).repeat(H, 1)


def random(H: int, N: int, generator: torch.Generator) -> Float[Tensor, "H modes"]:
    """Omega ~ U[0, 2 pi)."""
    return 2 * math.pi * torch.rand(H, N // 2, generator=generator, dtype=torch.float64)


def _modes(N: int) -> Float[Tensor, " modes"]:
    return torch.arange(N // 2, dtype=torch.float64)


def _channels(H: int) -> Float[Tensor, "H 1"]:
    return torch.arange(H, dtype=torch.float64)[:, None]


Frequencies = Callable[[int, int, torch.Generator], Float[Tensor, "H modes"]]

FREQUENCIES: dict[str, Frequencies] = {
    "interleaved": interleaved,
    "uniform": uniform,
    "batched": batched,
    "token": token,
    "random": random,
}

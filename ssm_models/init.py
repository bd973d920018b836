"""Where the eigenvalues of the state matrix start.

A real state of size N whose matrix has no real eigenvalue is N/2 conjugate pairs; one of each pair is stored.
Every law returns complex128 `lambda` of shape (copies, N/2), with Re lambda <= 0, Im lambda >= 0, n = 0 .. N/2 - 1.

A law without parameters is a function in `INITS`. One that has some is a frozen dataclass with a method `modes` of
the same signature (`Mixed` here, `PTD` in ptd.py).

    S4D-*    Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models"
    HiPPO    `hippo.py`
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from descriptions import ImpossibleError, check_fields, one_of, require
from ssm_models.hippo import HIPPO, normal_form

Init = Callable[[int, int, torch.Generator], Complex[Tensor, "copies modes"]]
Law = Callable[[Float[Tensor, "*S"], int], Float[Tensor, "*S"]]


@runtime_checkable
class InitWithParameters(Protocol):
    """A law of initial eigenvalues that has parameters of its own: a frozen dataclass."""

    def modes(self, copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
        """The initial eigenvalues."""
        ...

    def extremes(self, N: int) -> Complex[Tensor, " modes"]:
        """Eigenvalues as far out as the law can draw them."""
        ...

    @property
    def differs_between_copies(self) -> bool:
        """Whether several copies start different."""
        ...

    def check(self, copies: int, N: int) -> None:
        """Raise `ImpossibleError` if there is no such start."""
        ...


def lin(n: Float[Tensor, "*S"], N: int) -> Float[Tensor, "*S"]:
    """S4D-Lin: Im lambda = pi n."""
    return math.pi * n


def inv(n: Float[Tensor, "*S"], N: int) -> Float[Tensor, "*S"]:
    """S4D-Inv: Im lambda = (N/pi) (N / (2n+1) - 1), with N the full real size."""
    return N / math.pi * (N / (2 * n + 1) - 1)


def inv2(n: Float[Tensor, "*S"], N: int) -> Float[Tensor, "*S"]:
    """S4D-Inv2: Im lambda = (N/pi) (N / (n+1) - 1)."""
    return N / math.pi * (N / (n + 1) - 1)


def quad(n: Float[Tensor, "*S"], N: int) -> Float[Tensor, "*S"]:
    """S4D-Quad: Im lambda = (2n+1)^2 / pi."""
    return (2 * n + 1) ** 2 / math.pi


def foud(n: Float[Tensor, "*S"], N: int) -> Float[Tensor, "*S"]:
    """Fourier-diagonal: Im lambda = 2 pi n, the Fourier modes of a window of length 1 without its low-rank term."""
    return 2 * math.pi * n


#: Laws of the imaginary part as a function of the mode's index, at Re lambda = -1/2.
LAWS: dict[str, Law] = {"lin": lin, "inv": inv, "inv2": inv2, "quad": quad, "foud": foud}


def law(name: str) -> Init:
    """The initial eigenvalues of a law of the index."""

    def init(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
        return _at_minus_half(copies, LAWS[name](_modes(N), N))

    return init


def hippo(name: str) -> Init:
    """The spectrum of the normal part of a HiPPO matrix. Exact for S4D-LegS: A + P P^T = -1/2 + skew."""

    def init(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
        return normal_form(name, N).Lambda.repeat(copies, 1)

    return init


def real(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """S4D-Real: lambda_n = -(n+1). Stored as complex like the others, so Im can be trained away from 0."""
    rates = -(_modes(N) + 1)
    return torch.complex(rates, torch.zeros_like(rates)).repeat(copies, 1)


def rand(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """S4D-Rand: lambda_n = -1/2 + i exp(g), g ~ N(0, 1), independently for each copy."""
    g = torch.randn(copies, N // 2, generator=generator, dtype=torch.float64)
    return torch.complex(torch.full_like(g, -0.5), torch.exp(g))


def _modes(N: int) -> Float[Tensor, " modes"]:
    return torch.arange(N // 2, dtype=torch.float64)


def _at_minus_half(copies: int, frequencies: Float[Tensor, " modes"]) -> Complex[Tensor, "copies modes"]:
    return torch.complex(torch.full_like(frequencies, -0.5), frequencies).repeat(copies, 1)


INITS: dict[str, Init] = {
    **{name: law(name) for name in LAWS},
    **{name: hippo(name) for name in HIPPO if name != "fourier_decay"},  # its normal part is that of fout
    "real": real,
    "rand": rand,
}

#: Every name that a field `init` of some structure can have.
INIT_NAMES = frozenset({*INITS, *HIPPO})

# The laws that draw from their generator: only with these do several copies of A start different.
RANDOM_INITS = frozenset({"rand"})


@dataclass(frozen=True)
class Mixed:
    """Several laws in one layer, an equal share of the copies each: `Mixed(("legs", "fout"))`."""

    laws: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        require(
            len(set(self.laws)) == len(self.laws) >= 2, f"laws={self.laws}: give two or more laws, each of them once."
        )
        for name in self.laws:
            one_of("init", name, INITS)

    def modes(self, copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
        """The first share of the copies from the first law, and so on."""
        share = copies // len(self.laws)
        return torch.cat([INITS[name](share, N, generator) for name in self.laws])

    def extremes(self, N: int) -> Complex[Tensor, " modes"]:
        """Those of all its laws."""
        return torch.cat([extreme_modes(name, N) for name in self.laws])

    @property
    def differs_between_copies(self) -> bool:
        """Yes."""
        return True

    def check(self, copies: int, N: int) -> None:
        """Raise `ImpossibleError` unless the copies can be shared out evenly."""
        if copies % len(self.laws):
            raise ImpossibleError(
                f"init=Mixed({self.laws}) needs a number of copies of A that {len(self.laws)} divides, not {copies}."
            )


def check_init(named: str | InitWithParameters, allowed: dict[str, Init] = INITS) -> None:
    """Raise for an unknown name (`MistakeError`) and for a law of other structures (`ImpossibleError`)."""
    if isinstance(named, str):
        one_of("init", named, allowed, elsewhere=INIT_NAMES)


def initial_modes(
    named: str | InitWithParameters, copies: int, N: int, generator: torch.Generator
) -> Complex[Tensor, "copies modes"]:
    """The eigenvalues that a field `init` names, or makes."""
    return (INITS[named] if isinstance(named, str) else named.modes)(copies, N, generator)


def extreme_modes(named: str | InitWithParameters, N: int) -> Complex[Tensor, " modes"]:
    """Initial eigenvalues as far out as a law can draw them."""
    if not isinstance(named, str):
        return named.extremes(N)
    if named == "rand":  # Im lambda = exp(g), and |g| > 5 has a chance of 6e-7
        ends = torch.tensor([math.exp(-5), math.exp(5)], dtype=torch.float64)
        return _at_minus_half(1, ends)[0]
    return INITS[named](1, N, torch.Generator())[0]


def differs_between_copies(named: str | InitWithParameters) -> bool:
    """Whether several copies of A start different."""
    return named in RANDOM_INITS if isinstance(named, str) else named.differs_between_copies

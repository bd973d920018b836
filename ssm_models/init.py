"""Where the eigenvalues of the state matrix start.

A real state of size N whose matrix has no real eigenvalue is N/2 conjugate pairs; one of each pair is stored.
Every law returns complex128 `lambda` of shape (copies, N/2), with Re lambda < 0 and n = 0 .. N/2 - 1.

    HiPPO       Gu et al. 2020, "HiPPO: Recurrent Memory with Optimal Polynomial Projections"
    S4D-*       Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models"
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Init = Callable[[int, int, torch.Generator], Complex[Tensor, "copies modes"]]


def hippo_legs(N: int) -> tuple[Float[Tensor, "N N"], Float[Tensor, " N"]]:
    """HiPPO-LegS, the dense (A, B) whose basis e^{tA} B is the exponentially warped Legendre polynomials.

    A_nk = -sqrt((2n+1)(2k+1)) for n > k, -(n+1) for n = k, 0 for n < k;  B_n = sqrt(2n+1).
    (e^{tA} B)_n = e^{-t} sqrt(2n+1) P_n(2 e^{-t} - 1).  Source: HiPPO, theorem 2, in the sign of S4.
    """
    n = torch.arange(N, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    A = -torch.tril(torch.outer(B, B), diagonal=-1) - torch.diag(n + 1)
    return A, B


def legs(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """S4D-LegS: eigenvalues of the normal part A + P P^T of HiPPO-LegS, P_n = sqrt(n + 1/2).

    A + P P^T = -I/2 + S with S skew-symmetric, so Re lambda = -1/2 exactly and Im lambda are the eigenvalues
    of the Hermitian -iS. (A itself is too far from normal: the condition of its eigenvectors exceeds 1e19 at
    N = 32.)
    """
    A, B = hippo_legs(N)
    skew = A + torch.outer(B, B) / 2 + torch.eye(N, dtype=torch.float64) / 2  # P = B / sqrt(2)
    frequencies = torch.linalg.eigvalsh(-1j * skew.to(torch.complex128))  # ascending, symmetric about 0
    return _at_minus_half(copies, frequencies[N // 2 :])


def lin(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """S4D-Lin: lambda_n = -1/2 + i pi n."""
    return _at_minus_half(copies, math.pi * _modes(N))


def inv(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """S4D-Inv: lambda_n = -1/2 + i (N/pi) (N / (2n+1) - 1), with N the full real size."""
    return _at_minus_half(copies, N / math.pi * (N / (2 * _modes(N) + 1) - 1))


def inv2(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """S4D-Inv2: lambda_n = -1/2 + i (N/pi) (N / (n+1) - 1)."""
    return _at_minus_half(copies, N / math.pi * (N / (_modes(N) + 1) - 1))


def quad(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """S4D-Quad: lambda_n = -1/2 + i (2n+1)^2 / pi."""
    return _at_minus_half(copies, (2 * _modes(N) + 1) ** 2 / math.pi)


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
    "lin": lin,
    "inv": inv,
    "inv2": inv2,
    "quad": quad,
    "legs": legs,
    "real": real,
    "rand": rand,
}

# The laws that draw from their generator: only with these do several copies of A start different.
RANDOM_INITS = frozenset({"rand"})

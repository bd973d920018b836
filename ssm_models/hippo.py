"""The HiPPO state matrices, dense and real, and their normal-plus-low-rank form.

    x'(t) = A x(t) + B u(t)   keeps the coefficients of u's past in a basis of orthogonal functions:

    legs            Legendre polynomials in e^{-t}: all the past, exponentially warped
    legt            Legendre polynomials on a window of length 2
    lagt            Laguerre functions: all the past, exponentially forgotten
    fout            Fourier modes on a window of length 2
    fourier_decay   Fourier modes, exponentially forgotten

    A = S - c 1 - sum_r P_r P_r^T   with S skew-symmetric, c = 1/2 for legs and 0 for the others

Sources: Gu et al. 2020 (arXiv:2008.07669); Gu et al. 2022, "How to Train Your HiPPO" (arXiv:2206.12037), in whose
signs and time scales they are written here. Everything is float64 or complex128.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor


class Hippo(NamedTuple):
    """A, B and the low-rank term P."""

    A: Float[Tensor, "N N"]
    B: Float[Tensor, " N"]
    P: Float[Tensor, "R N"]


def legs(N: int) -> Hippo:
    """A_nk = -sqrt((2n+1)(2k+1)) for n > k, -(n+1) for n = k, 0 for n < k;  B_n = sqrt(2n+1).

    (e^{tA} B)_n = e^{-t} sqrt(2n+1) P_n(2 e^{-t} - 1), with P_n the Legendre polynomials.
    """
    n = torch.arange(N, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    A = -torch.tril(torch.outer(B, B), diagonal=-1) - torch.diag(n + 1)
    return Hippo(A, B, B[None] / math.sqrt(2))


def legt(N: int) -> Hippo:
    """A_nk = -1/2 sqrt((2n+1)(2k+1)) (1 for k <= n, (-1)^(n-k) for k > n);  B_n = 1/2 sqrt(2n+1).

    (e^{tA} B)_n tends to 1/2 sqrt(2n+1) P_n(1 - t) on [0, 2) and to 0 after, as N grows. Rank 2.
    """
    n = torch.arange(N, dtype=torch.float64)
    root = torch.sqrt(2 * n + 1)
    sign = torch.where(n[:, None] >= n[None, :], 1.0, (-1.0) ** (n[:, None] - n[None, :]).abs()).double()
    odd = n % 2 == 1
    P = torch.stack([torch.where(odd, root, 0), torch.where(odd, 0, root)]) / math.sqrt(2)
    return Hippo(-torch.outer(root, root) * sign / 2, root / 2, P)


def lagt(N: int) -> Hippo:
    """A = 1/2 - (lower triangle of ones);  B = 1.

    (e^{tA} B)_n = e^{-t/2} L_n(t), with L_n the Laguerre polynomials.
    """
    ones = torch.ones(N, dtype=torch.float64)
    A = torch.eye(N, dtype=torch.float64) / 2 - torch.tril(torch.outer(ones, ones))
    return Hippo(A, ones, ones[None] / math.sqrt(2))


def fout(N: int) -> Hippo:
    """A = W - B B^T, with W rotating the pair (2k, 2k+1) at pi k;  B = (1, 0, sqrt 2, 0, sqrt 2, ...).

    (e^{tA} B) tends to (1/2, 0, cos(pi t)/sqrt 2, sin(pi t)/sqrt 2, ...) on [0, 2) and to 0 after, as N grows.
    """
    W, B = _fourier(N)
    return Hippo(W - torch.outer(B, B), B, B[None])


def fourier_decay(N: int) -> Hippo:
    """A = W - 1/2 B B^T and half the B of `fout`.

    (e^{tA} B) tends to 3^{-m-1} (1, 0, sqrt 2 cos(pi t), sqrt 2 sin(pi t), ...) on [2m, 2m+2), as N grows: each
    window of length 2 is remembered a third as well as the one after it.
    """
    W, B = _fourier(N)
    return Hippo(W - torch.outer(B, B) / 2, B / 2, B[None] / math.sqrt(2))


def _fourier(N: int) -> tuple[Float[Tensor, "N N"], Float[Tensor, " N"]]:
    couplings = torch.zeros(N - 1, dtype=torch.float64)
    couplings[::2] = math.pi * torch.arange(N // 2, dtype=torch.float64)
    B = torch.zeros(N, dtype=torch.float64)
    B[::2] = math.sqrt(2)
    B[0] = 1
    return torch.diag(couplings, -1) - torch.diag(couplings, 1), B


HIPPO: dict[str, Callable[[int], Hippo]] = {
    "legs": legs,
    "legt": legt,
    "lagt": lagt,
    "fout": fout,
    "fourier_decay": fourier_decay,
}


class NormalForm(NamedTuple):
    """A HiPPO system in the eigenbasis of its normal part; one mode of each conjugate pair.

    With M = [V, conj V] unitary:  A + P P^T = M diag(Lambda, conj Lambda) M^*.  Im Lambda >= 0, ascending. The phases
    of the eigenvectors, which differ between LAPACK's drivers, are fixed by B >= 0.
    """

    Lambda: Complex[Tensor, " modes"]
    V: Complex[Tensor, "N modes"]
    P: Complex[Tensor, "R modes"]  # V^* P
    B: Complex[Tensor, " modes"]  # V^* B, real and >= 0


@cache
def normal_form(name: str, N: int) -> NormalForm:
    """The normal-plus-low-rank form of a HiPPO matrix of even size N.

    A itself is no use to an eigensolver: the condition number of its eigenvectors exceeds 1e19 at N = 32 for legs.
    """
    A, B, P = HIPPO[name](N)
    normal = A + P.T @ P
    decay = (2 * normal.diagonal().mean()).round() / 2  # -1/2 or 0, without what the square roots leave
    skew = normal - decay * torch.eye(N, dtype=torch.float64)
    frequencies, vectors = torch.linalg.eigh(-1j * skew.to(torch.complex128))  # ascending, symmetric about 0
    frequencies, V = frequencies[N // 2 :], vectors[:, N // 2 :].clone()
    if frequencies[0] < 1e-9 * max(1.0, frequencies[-1].item()):
        # A double eigenvalue 0: any two vectors of its plane are eigenvectors, but only v = (q1 - i q2) / sqrt 2 with
        # q1, q2 real and orthonormal is orthogonal to its own conjugate.
        frequencies[0] = 0
        _, _, rows = torch.linalg.svd(skew)
        V[:, 0] = torch.complex(rows[-2], -rows[-1]) / math.sqrt(2)
    b = V.mH @ B.to(V.dtype)
    V = V * (b / b.abs())
    return NormalForm(
        torch.complex(decay.expand_as(frequencies), frequencies), V, P.to(V.dtype) @ V.conj(), b.abs() + 0j
    )

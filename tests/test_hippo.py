"""The HiPPO matrices against the functions they are made to approximate, and their normal-plus-low-rank form."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.special import eval_laguerre, eval_legendre

from ssm_models.hippo import HIPPO, normal_form

SIZES = [4, 6, 10, 64]
Basis = Callable[[int, float], np.ndarray]


def legendre(N: int, t: float) -> np.ndarray:
    n = np.arange(N)
    return math.exp(-t) * np.sqrt(2 * n + 1) * eval_legendre(n, 2 * math.exp(-t) - 1)


def laguerre(N: int, t: float) -> np.ndarray:
    return math.exp(-t / 2) * eval_laguerre(np.arange(N), t)


def legendre_window(N: int, t: float) -> np.ndarray:
    n = np.arange(N)
    return (t < 2) / 2 * np.sqrt(2 * n + 1) * eval_legendre(n, 1 - t)


def fourier(N: int, t: float) -> np.ndarray:
    k = np.arange(N // 2)
    x = math.sqrt(2) * np.stack([np.cos(math.pi * k * t), np.sin(math.pi * k * t)], axis=1).ravel()
    x[0] = 1
    return x


def fourier_window(N: int, t: float) -> np.ndarray:
    return (t < 2) / 2 * fourier(N, t)


def fading_fourier_windows(N: int, t: float) -> np.ndarray:
    return 3.0 ** -(1 + t // 2) * fourier(N, t)


def response(name: str, N: int, t: float) -> np.ndarray:
    """e^{tA} B."""
    A, B, _ = HIPPO[name](N)
    return expm(t * A.numpy()) @ B.numpy()


@pytest.mark.parametrize(("name", "basis"), [("legs", legendre), ("lagt", laguerre)])
def test_the_impulse_response_is_the_basis(name: str, basis: Basis) -> None:
    for t in (0.0, 0.1, 0.5, 1.0, 3.0, 6.0):
        np.testing.assert_allclose(response(name, 16, t), basis(16, t), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "basis"),
    [("legt", legendre_window), ("fout", fourier_window), ("fourier_decay", fading_fourier_windows)],
)
def test_the_impulse_response_tends_to_the_basis_on_its_window_and_to_what_follows(name: str, basis: Basis) -> None:
    def typical(N: int) -> float:
        A, B, _ = (x.numpy() for x in HIPPO[name](N))
        step, x, errors = expm(0.1 * A), B, []
        for k in range(1, 51):
            x = step @ x
            if 3 <= k % 20 <= 17:  # away from the jumps at 0, 2 and 4
                errors.append(np.abs(x[:8] - basis(N, k / 10)[:8]).max())
        return float(np.mean(errors))

    coarse, fine = typical(32), typical(128)
    assert fine < 0.015
    assert fine < coarse / 2


@pytest.mark.parametrize("N", SIZES)
@pytest.mark.parametrize("name", HIPPO)
def test_a_is_normal_minus_its_low_rank_term(name: str, N: int) -> None:
    A, _, P = HIPPO[name](N)
    decay = 0.5 if name == "legs" else 0.0
    assert P.shape == (2 if name == "legt" else 1, N)
    skew = A + P.T @ P + decay * torch.eye(N)
    torch.testing.assert_close(skew, -skew.T, rtol=0, atol=1e-12 * N)


@pytest.mark.parametrize("N", [*SIZES, 256])
@pytest.mark.parametrize("name", HIPPO)
def test_the_normal_form_is_a_unitary_change_of_coordinates_closed_under_conjugation(name: str, N: int) -> None:
    A, B, P = HIPPO[name](N)
    Lambda, V, p, b = normal_form(name, N)
    M = torch.cat([V, V.conj()], dim=1)
    torch.testing.assert_close(M.mH @ M, torch.eye(N, dtype=M.dtype), rtol=0, atol=1e-12 * N)
    rebuilt = M @ torch.diag(torch.cat([Lambda, Lambda.conj()])) @ M.mH
    torch.testing.assert_close(rebuilt, (A + P.T @ P).to(M.dtype), rtol=0, atol=1e-11 * A.abs().max().item() * N)
    torch.testing.assert_close(2 * (V @ b).real, B, rtol=0, atol=1e-11 * N)
    torch.testing.assert_close(2 * (V @ p.T).real, P.T, rtol=0, atol=1e-11 * N)
    assert (Lambda.imag >= 0).all()
    assert (Lambda.imag.diff() > 0).all()
    assert (b.imag == 0).all()
    assert (b.real > 0).all()


def test_legs_frequencies_are_as_published() -> None:
    top = normal_form("legs", 64).Lambda.imag.flip(0)[:3]
    assert top.tolist() == pytest.approx([1303.3, 433.0, 258.2], abs=0.1)


def test_fout_frequencies_are_the_zeros_of_the_window() -> None:
    frequencies = normal_form("fout", 16).Lambda.imag.numpy()
    np.testing.assert_allclose(frequencies, math.pi * np.arange(8), atol=1e-12)


def test_the_eigenvectors_of_legs_itself_are_no_use() -> None:
    conditions = [np.linalg.cond(np.linalg.eig(HIPPO["legs"](N).A.numpy())[1]) for N in (4, 8, 16, 32)]
    assert conditions[0] == pytest.approx(86, rel=0.01)
    assert conditions[1] == pytest.approx(7.7e4, rel=0.01)
    assert conditions[3] > 1e15  # times the precision: nothing is left

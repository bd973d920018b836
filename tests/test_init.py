"""Initial eigenvalues against formulas written out again, and HiPPO-LegS against its closed form."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.special import eval_legendre

from descriptions import ImpossibleError, MistakeError
from ssm_models.hippo import HIPPO
from ssm_models.init import INITS, LAWS, RANDOM_INITS, Mixed, extreme_modes, initial_modes

IMAGINARY = {
    "lin": lambda n, N: np.pi * n,
    "inv": lambda n, N: N / np.pi * (N / (2 * n + 1) - 1),
    "inv2": lambda n, N: N / np.pi * (N / (n + 1) - 1),
    "quad": lambda n, N: 1 / np.pi * (1 + 2 * n) ** 2,
    "foud": lambda n, N: 2 * np.pi * n,
    "real": lambda n, N: 0.0 * n,
}
ZERO = {"legt", "lagt", "fout"}  # normal parts with Re = 0


def draw(name: str, copies: int = 1, N: int = 64, seed: int = 0) -> np.ndarray:
    return INITS[name](copies, N, torch.Generator().manual_seed(seed)).numpy()


@pytest.mark.parametrize("N", [2, 4, 64])
@pytest.mark.parametrize("name", INITS)
def test_every_law_is_stable_double_precision_and_half_the_state(name: str, N: int) -> None:
    A = draw(name, copies=3, N=N)
    assert A.shape == (3, N // 2)
    assert A.dtype == np.complex128
    assert np.isfinite(A).all()
    assert (A.real <= 0).all() if name in ZERO else (A.real < 0).all()
    assert (A.imag >= 0).all()


@pytest.mark.parametrize("N", [2, 8, 64])
@pytest.mark.parametrize("name", IMAGINARY)
def test_closed_forms(name: str, N: int) -> None:
    n = np.arange(N // 2)
    real = -(n + 1.0) if name == "real" else np.full(N // 2, -0.5)
    np.testing.assert_allclose(draw(name, N=N)[0], real + 1j * IMAGINARY[name](n, N), rtol=1e-14, atol=1e-14)


def test_every_law_but_real_and_the_windows_starts_at_minus_one_half() -> None:
    for name in INITS.keys() - {"real"}:
        np.testing.assert_array_equal(draw(name).real, 0 if name in ZERO else -0.5)


def test_the_normal_part_of_the_fourier_window_is_s4d_lin_without_decay() -> None:
    np.testing.assert_allclose(draw("fout").imag, draw("lin").imag, atol=1e-10)


def test_mixed_copies_come_from_each_law_in_turn() -> None:
    A = initial_modes(Mixed(("inv", "legs")), 4, 8, torch.Generator()).numpy()
    np.testing.assert_array_equal(A[:2], draw("inv", 2, 8))
    np.testing.assert_array_equal(A[2:], draw("legs", 2, 8))
    with pytest.raises(ImpossibleError, match="that 2 divides, not 3"):
        Mixed(("inv", "legs")).check(3, 8)
    for laws, says in ((("inv",), "two or more"), (("inv", "inv"), "each of them once"), (("inv", "leg"), "'legs'")):
        with pytest.raises(MistakeError, match=says):
            Mixed(laws)


@pytest.mark.parametrize("name", INITS)
def test_no_drawn_mode_lies_beyond_the_extreme_ones(name: str) -> None:
    drawn, ends = draw(name, copies=500), extreme_modes(name, 64).numpy()
    assert drawn.imag.max() <= ends.imag.max()
    assert drawn.imag.min() >= ends.imag.min()
    assert (-drawn.real).max() <= (-ends.real).max()


@pytest.mark.parametrize("name", LAWS)
def test_laws_of_the_index_take_any_index(name: str) -> None:
    values = LAWS[name](torch.linspace(0, 32, 99, dtype=torch.float64), 64)
    assert torch.isfinite(values).all()
    steps = values.diff()
    assert (steps > 0).all() or (steps < 0).all()


def test_published_top_frequencies() -> None:
    np.testing.assert_allclose(np.sort(draw("legs")[0].imag)[::-1][:3], [1303.3, 433.0, 258.2], atol=0.05)
    np.testing.assert_allclose(np.sort(draw("inv")[0].imag)[::-1][:3], [1283.4, 414.2, 240.4], atol=0.05)
    assert min(draw("legs")[0].imag) == pytest.approx(0.264, abs=1e-3)
    assert min(draw("inv")[0].imag) == pytest.approx(0.323, abs=1e-3)


@pytest.mark.parametrize("N", [2, 6, 32])
def test_legs_frequencies_are_the_spectrum_of_the_normal_part(N: int) -> None:
    A, B, _ = (x.numpy() for x in HIPPO["legs"](N))
    normal = A + np.outer(B, B) / 2
    skew = normal + np.eye(N) / 2
    np.testing.assert_allclose(skew, -skew.T, atol=1e-12)
    spectrum = np.linalg.eigvals(normal)
    ours = draw("legs", N=N)[0]
    np.testing.assert_allclose(np.sort(spectrum.imag), np.sort([*ours.imag, *-ours.imag]), atol=1e-9 * N**2)
    # trace(S S^T) = sum of squared frequencies, both signs
    assert 2 * np.sum(ours.imag**2) == pytest.approx(np.sum(skew**2), rel=1e-12)


@pytest.mark.parametrize("t", [0.0, 0.1, 1.0, 3.0])
def test_hippo_legs_basis_is_the_exponentially_warped_legendre_polynomials(t: float) -> None:
    A, B, _ = (x.numpy() for x in HIPPO["legs"](16))
    n = np.arange(16)
    expected = np.exp(-t) * np.sqrt(2 * n + 1) * eval_legendre(n, 2 * np.exp(-t) - 1)
    np.testing.assert_allclose(expm(t * A) @ B, expected, atol=1e-12)


@pytest.mark.parametrize("name", INITS)
def test_only_the_laws_listed_as_random_depend_on_the_seed_or_differ_between_copies(name: str) -> None:
    first, again, other = draw(name, 2), draw(name, 2), draw(name, 2, seed=1)
    np.testing.assert_array_equal(first, again)
    assert (name in RANDOM_INITS) == (not np.array_equal(first, other))
    assert (name in RANDOM_INITS) == (not np.array_equal(first[0], first[1]))


def test_rand_is_log_normal() -> None:
    logs = np.log(draw("rand", copies=200).imag)
    assert logs.mean() == pytest.approx(0, abs=4 / math.sqrt(logs.size))
    assert logs.std() == pytest.approx(1, abs=0.05)

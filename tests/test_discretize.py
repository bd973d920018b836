"""Discretisations against scipy and numpy in double precision, where float32 usually loses its digits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.signal import cont2discrete

from descriptions import MistakeError
from ssm_models.discretize import (
    DISCRETIZATIONS,
    GBT,
    check_discretization,
    discretize_dense,
    discretize_diagonal,
    largest_stable_dt,
    log_moebius,
    phi1,
)
from ssm_models.hippo import HIPPO
from ssm_models.init import INITS

DTS = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
RULES = [*DISCRETIZATIONS, GBT(0.3), GBT(0.7)]
SCIPY = {"forward_euler": "euler", "backward_euler": "backward_diff"}


def c64(*values: complex) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.complex64)


def c128(*values: complex) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.complex128)


def exact(rule: str | GBT, A: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """A_bar and B_bar of the system x' = A x + u, whose B is the identity, by a dense solver in double precision."""
    one = np.eye(len(A), dtype=A.dtype)
    if rule == "dirac":
        return expm(dt * A), one
    if rule == "exponential_euler":
        return expm(dt * A), dt * one
    method, alpha = ("gbt", rule.alpha) if isinstance(rule, GBT) else (SCIPY.get(rule, rule), None)
    a_bar, b_bar, *_ = cont2discrete((A, one, one, 0 * one), dt, method=method, alpha=alpha)
    return a_bar, b_bar


@pytest.mark.parametrize("dt", [1e-1, 1e-3])
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_modes_agree_with_scipy(rule: str | GBT, init: str, dt: float) -> None:
    A = INITS[init](1, 16, torch.Generator().manual_seed(0))
    log_a, gain = discretize_diagonal(rule, A, torch.tensor([[dt]], dtype=torch.float64))
    a_true, b_true = (np.diag(x) for x in exact(rule, np.diag(A[0].numpy()), dt))
    np.testing.assert_allclose(torch.exp(log_a)[0].numpy(), a_true, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(gain[0].numpy(), b_true, rtol=1e-10)


@pytest.mark.parametrize("hippo", HIPPO)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_matrices_agree_with_scipy(rule: str | GBT, hippo: str) -> None:
    A, dt = HIPPO[hippo](6).A, 0.02
    a_bar, gain = discretize_dense(rule, A[None], torch.tensor([dt], dtype=torch.float64))
    a_true, b_true = exact(rule, A.numpy(), dt)
    np.testing.assert_allclose(a_bar[0].numpy(), a_true, atol=1e-12)
    np.testing.assert_allclose(gain[0].numpy(), b_true, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_matrix_with_known_eigenvectors_has_the_discretised_eigenvalues(rule: str | GBT) -> None:
    A, dt = c128(-0.5 + 3j, -0.1 + 50j, -2 + 0j), torch.tensor([0.1], dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    V = torch.linalg.qr(torch.randn(3, 3, dtype=torch.complex128, generator=g))[0]
    a_bar, gain = discretize_dense(rule, (V @ torch.diag(A) @ V.mH)[None], dt)
    log_a, gains = discretize_diagonal(rule, A[None], dt[:, None])
    torch.testing.assert_close(a_bar[0], V @ torch.diag(torch.exp(log_a[0])) @ V.mH)
    torch.testing.assert_close(gain[0], V @ torch.diag(gains[0]) @ V.mH)


def test_zoh_of_a_singular_matrix_needs_no_inverse() -> None:
    A = torch.zeros(1, 2, 2, dtype=torch.float64)
    a_bar, gain = discretize_dense("zoh", A, torch.tensor([0.3], dtype=torch.float64))
    torch.testing.assert_close(a_bar[0], torch.eye(2).double())
    torch.testing.assert_close(gain[0], 0.3 * torch.eye(2).double())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.49])
def test_an_explicit_rule_is_stable_up_to_its_largest_step_and_not_above(alpha: float) -> None:
    A = INITS["lin"](1, 64, torch.Generator())[0]
    limit = largest_stable_dt(GBT(alpha), A)
    for factor, stable in ((0.999, True), (1.001, False)):
        log_a, _ = discretize_diagonal(GBT(alpha), A[None], torch.tensor([[factor * limit]], dtype=torch.float64))
        assert bool((log_a.real < 0).all()) == stable


def test_a_mode_at_zero_sets_no_limit_and_one_on_the_imaginary_axis_allows_no_step() -> None:
    assert largest_stable_dt("forward_euler", c128(0j)) == math.inf
    assert largest_stable_dt("forward_euler", c128(0j, -0.5 + 0j)) == 4
    assert largest_stable_dt("forward_euler", c128(0j, 3j)) == 0


def test_the_published_limits_of_forward_euler() -> None:
    for init, limit in (("lin", 1.05e-4), ("inv", 6.1e-7), ("quad", 6.3e-7), ("real", 6.25e-2)):
        found = largest_stable_dt("forward_euler", INITS[init](1, 64, torch.Generator()))
        assert found == pytest.approx(limit, rel=0.01), init


@pytest.mark.parametrize("rule", ["zoh", "bilinear", "backward_euler", "exponential_euler", "dirac", GBT(0.5)])
def test_the_other_rules_are_stable_at_any_step(rule: str | GBT) -> None:
    assert largest_stable_dt(rule, c128(-1e-4 + 1e4j)) == math.inf
    log_a, _ = discretize_diagonal(rule, c128(-1e-4 + 1e4j)[None], torch.full((1, 1), 10.0, dtype=torch.float64))
    assert log_a.real.item() < 0


def test_mistakes_are_named() -> None:
    with pytest.raises(MistakeError, match="Did you mean 'bilinear'"):
        check_discretization("bilinar")
    for alpha in (-0.1, 1.1):
        with pytest.raises(MistakeError, match="0 <= alpha <= 1"):
            GBT(alpha)
    with pytest.raises(MistakeError, match="alpha='half'"):
        GBT("half")


@pytest.mark.parametrize("dt", DTS)
@pytest.mark.parametrize("re", [-0.5, -0.01, -1e-4])
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "forward_euler" and rule != GBT(0.3)], ids=str)
def test_single_precision_loses_no_digits_at_small_steps(rule: str | GBT, re: float, dt: float) -> None:
    frequencies = torch.tensor([0.0, 1e-3, 0.3, math.pi, 100.0, 1303.3])
    A = torch.complex(torch.full_like(frequencies, re), frequencies)[None]
    step = torch.tensor([[dt]])
    ours = discretize_diagonal(rule, A, step)
    truth = discretize_diagonal(rule, A.to(torch.complex128), step.double())
    assert ((ours[0] - truth[0]).abs() / truth[0].abs()).max() < 4e-7
    # B_bar / B has zeros, at z = 2 pi i k under zoh, near which only its absolute error can be small
    assert (ours[1] - truth[1]).abs().max() / truth[1].abs().max() < 4e-7


def test_the_naive_formulas_fail_that_bound() -> None:
    z = torch.linspace(-1e-5, -0.5e-5, 99).to(torch.complex64)
    true = phi1(z.to(torch.complex128))
    assert (((torch.exp(z) - 1) / z - true).abs() / true.abs()).max() > 1e-3
    true = log_moebius(z.to(torch.complex128), 0.5)
    assert ((torch.log((1 + z / 2) / (1 - z / 2)) - true).abs() / true.abs()).max() > 1e-3


@settings(deadline=None)
@given(st.floats(-50, 0), st.floats(-100, 100))
def test_phi1_is_accurate_to_rounding_everywhere(x: float, y: float) -> None:
    z = c64(complex(x, y))
    w = z.numpy().astype(complex)[0]
    true = np.expm1(w) / w if abs(w) > 1e-300 else 1
    # at z = 2 pi i k the function has a zero, where only the absolute error can be small
    assert abs(phi1(z).numpy()[0] - true) <= 4e-7 * max(abs(true), 1 / max(1, abs(w)))
    wide = phi1(z.to(torch.complex128)).numpy()[0]
    assert abs(wide - true) <= 1e-15 * 4 * max(abs(true), 1 / max(1, abs(w)))


@settings(deadline=None)
@given(st.floats(-50, 0), st.floats(-100, 100))
def test_log_moebius_at_one_half_is_the_logarithm_of_the_bilinear_ratio(x: float, y: float) -> None:
    w = c64(complex(x, y)).to(torch.complex128)
    v = w.numpy()[0]
    if abs(1 + v) < 1e-3:
        return  # numpy's own error is no longer small against the ratio
    a = torch.exp(log_moebius(2 * w, 0.5)).numpy()[0]
    assert abs(a - (1 + v) / (1 - v)) < 1e-14
    assert abs(a) <= 1 + 1e-15


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_phi1_and_its_gradient_at_zero(dtype: torch.dtype) -> None:
    z = torch.zeros(1, dtype=dtype, requires_grad=True)
    value = phi1(z)
    value.real.sum().backward()
    assert value.item() == 1
    assert z.grad.item() == pytest.approx(0.5)  # phi1'(0) = 1/2


@pytest.mark.parametrize("z", [0j, -1e-4 + 0j, -0.999e-3 + 0j, -1.001e-3 + 0j, 1e-3j, -0.3 + 2j, -5 + 0j])
def test_gradient_of_phi1(z: complex) -> None:
    assert torch.autograd.gradcheck(phi1, (c128(z).requires_grad_(),), eps=1e-7, atol=1e-7)


@pytest.mark.parametrize("w", [0j, -1e-5 + 1e-5j, -0.1 + 0j, -0.18 + 0j, -0.3 + 2j, -0.9 + 0.1j, -1.5 + 0j, 3j])
@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.7, 1.0])
def test_gradient_of_log_moebius(w: complex, alpha: float) -> None:
    def ratio(w: torch.Tensor) -> torch.Tensor:  # across w < -1 the angle jumps by 2 pi, which no kernel sees
        return torch.exp(log_moebius(2 * w, alpha))

    assert torch.autograd.gradcheck(ratio, (c128(w).requires_grad_(),), eps=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_bilinear_of_a_real_mode_at_minus_two_is_zero_with_a_finite_gradient(dtype: torch.dtype) -> None:
    A = torch.tensor([[-2, -2 + 1e-7, -2 - 1e-7, -2 + 1e-20j]], dtype=dtype, requires_grad=True)
    log_a, b_bar = discretize_diagonal("bilinear", A, torch.ones(1, 1, dtype=A.real.dtype))
    powers = torch.exp(torch.arange(4)[:, None] * log_a)  # the taps a kernel would have
    (powers.real.sum() + b_bar.real.sum()).backward()
    assert torch.isfinite(powers).all()
    assert torch.isfinite(torch.view_as_real(A.grad)).all()
    torch.testing.assert_close(powers[0], torch.ones_like(powers[0]))
    assert powers[1].abs().max() < 3e-7
    torch.testing.assert_close(b_bar, torch.full_like(b_bar, 0.5), rtol=1e-6, atol=0)


@pytest.mark.parametrize("imaginary", [0.0, -0.0])
def test_bilinear_of_a_fast_real_mode_alternates_in_sign(imaginary: float) -> None:
    A = torch.complex(torch.tensor([[-3.0, -32.0]]), torch.full((1, 2), imaginary))
    log_a, _ = discretize_diagonal("bilinear", A, torch.ones(1, 1))
    a = torch.exp(log_a)
    torch.testing.assert_close(a.real, torch.tensor([[-0.2, -15 / 17]]))
    assert a.imag.abs().max() < 1e-6


@pytest.mark.parametrize("name", DISCRETIZATIONS)
def test_conjugate_eigenvalues_give_conjugate_results(name: str) -> None:
    A, dt = c128(-0.5 + 3j, -0.1 + 50j)[None], torch.full((1, 1), 0.1, dtype=torch.float64)
    for value, mirrored in zip(discretize_diagonal(name, A, dt), discretize_diagonal(name, A.conj(), dt), strict=True):
        torch.testing.assert_close(value.conj().resolve_conj(), mirrored)


@pytest.mark.parametrize("name", DISCRETIZATIONS)
def test_the_step_can_differ_between_modes(name: str) -> None:
    A, dt = c128(-0.5 + 3j, -0.1 + 50j)[None], torch.tensor([[0.1, 0.01]], dtype=torch.float64)
    together = discretize_diagonal(name, A, dt)
    for n in range(2):
        alone = discretize_diagonal(name, A[:, n : n + 1], dt[:, n : n + 1])
        for value, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(value[:, n : n + 1], expected)

"""Companion and Shift: kernels are powers of the matrix, and autoregressions are realised and continued exactly."""

import numpy as np
import pytest
import torch
from lattice import error, in_chunks, noise, step_by_step
from scipy.signal import lfilter

from descriptions import ImpossibleError, MistakeError
from ssm_models.structures.companion import Companion, CompanionLayer, Shift, ShiftLayer, companion_kernel

torch.set_num_threads(1)

# Autoregressions u_k = sum_i phi_i u_{k-i} whose series neither dies nor grows within 100 steps.
SERIES = {
    "one": [0.99],
    "oscillation": [2 * 0.999 * np.cos(0.3), -(0.999**2)],
    "two oscillations": [-x for x in np.poly(0.998 * np.exp(1j * np.array([0.4, -0.4, 1.3, -1.3]))).real[1:]],
    "trend and period": [-x for x in np.poly([1, *0.999 * np.exp(1j * np.array([0.7, -0.7]))]).real[1:]],
}


def companion(width: int = 3, **fields: object) -> CompanionLayer:
    return Companion(**{"state": 5, **fields}).build(width, seed=0).double()


def shift(width: int = 3, **fields: object) -> ShiftLayer:
    return Shift(**{"state": 5, **fields}).build(width, seed=0).double()


def set_to(layer: CompanionLayer | ShiftLayer, **values: object) -> None:
    for name, value in values.items():
        layer.get_parameter(name).data.copy_(torch.as_tensor(value, dtype=torch.float64))


def unit(d: int) -> list[float]:
    return [1.0] + [0.0] * (d - 1)


def matrix(a: np.ndarray) -> np.ndarray:
    return np.eye(len(a), k=-1) + np.outer(a, unit(len(a))[::-1])


def autoregressive_series(phi: list[float], length: int) -> np.ndarray:
    u = list(np.random.default_rng(0).standard_normal(len(phi)))
    while len(u) < length:
        u.append(sum(f * u[-i] for i, f in enumerate(phi, start=1)))
    return np.array(u)


@pytest.mark.parametrize("length", [1, 3, 40])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_kernel_is_c_times_powers_of_the_matrix_times_b(d: int, length: int) -> None:
    ssm = companion(state=d)
    a, B, C = (p.detach().numpy() for p in (ssm.a, ssm.B, ssm.C))
    for h in range(3):
        A = matrix(a[h] / np.abs(a[h]).sum())
        np.testing.assert_allclose(ssm.recurrence().A[h].detach(), A)
        expected = [C[h] @ np.linalg.matrix_power(A, step) @ B[h] for step in range(length)]
        np.testing.assert_allclose(ssm.kernels(length)[0, :, h].detach(), expected, atol=1e-12)


def test_gradient_of_the_kernel_is_that_of_the_powers() -> None:
    torch.manual_seed(0)
    a, b, c = (torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(lambda a, b, c: companion_kernel(a / 6, b, c, 9), (a, b, c))


def test_a_kernel_of_order_d_is_any_filter_of_order_d() -> None:
    poles = 0.95 * np.exp(1j * np.array([0.5, -0.5, 2.0, -2.0]))
    denominator, numerator = np.poly([*poles, 0.7]).real, [0.3, -1.0, 0.5, 0.2, 0.1]
    expected = lfilter(numerator, denominator, np.eye(1, 200)[0])
    ssm = companion(1, normalize=False)
    set_to(ssm, a=-denominator[None, :0:-1].copy(), B=[unit(5)], C=expected[None, :5])
    np.testing.assert_allclose(ssm.kernels(200)[0, :, 0].detach(), expected, atol=1e-12)
    np.testing.assert_allclose(np.poly(ssm.spectrum().A_bar[0].numpy()), denominator, atol=1e-12)


def test_shift_is_a_filter_whose_taps_are_c_and_a_companion_with_a_zero() -> None:
    ssm = shift()
    for length in (3, 12):
        taps = ssm.kernels(length)[0].T
        assert torch.equal(taps[:, :5], ssm.C[:, :length])
        assert (taps[:, 5:] == 0).all()
    for normalize in (True, False):
        other = companion(normalize=normalize)
        set_to(other, a=torch.zeros(3, 5), B=unit(5), C=ssm.C, D=ssm.D)
        u = noise(2, 12, 3, dtype=torch.float64)
        torch.testing.assert_close(other(u), ssm(u))
        other(u).square().sum().backward()
        assert torch.isfinite(other.a.grad).all()


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("kind", ["Shift", "Companion"])
def test_an_autoregression_is_continued_exactly_over_100_steps(kind: str, name: str) -> None:
    phi = SERIES[name]
    p = len(phi)
    if kind == "Shift":
        ssm: ShiftLayer | CompanionLayer = shift(1, state=p, skip=False)
        set_to(ssm, C=[phi])
    else:
        ssm = companion(1, state=p, skip=False, normalize=False)
        set_to(ssm, a=torch.zeros(1, p), B=[unit(p)], C=[phi])
    u = autoregressive_series(phi, p + 100)
    with torch.no_grad():
        forecast = ssm.forecast(torch.as_tensor(u[:p])[None, :, None], 100)[0, :, 0]
    assert np.abs(u[-20:]).max() > 0.3 * np.abs(u[:p]).max()  # there is something to continue
    np.testing.assert_allclose(forecast, u[p:], atol=1e-10)
    closed = matrix(np.zeros(p)) + np.outer(unit(p), phi)  # the output fed back: the autoregression's own matrix
    np.testing.assert_allclose(np.poly(closed), [1, *(-np.array(phi))], atol=1e-12)


@pytest.mark.parametrize("name", SERIES)
def test_a_companion_whose_column_is_an_autoregression_has_its_series_as_kernel(name: str) -> None:
    phi = SERIES[name]
    p = len(phi)
    u = autoregressive_series(phi, p + 100)
    ssm = companion(1, state=p, normalize=False)
    set_to(ssm, a=[phi[::-1]], B=[unit(p)], C=u[None, :p])
    np.testing.assert_allclose(ssm.kernels(p + 100)[0, :, 0].detach(), u, atol=1e-10)


def test_exponential_smoothing_is_a_companion_of_size_one_with_a_flat_forecast() -> None:
    alpha, u = 0.3, noise(1, 50, 1, dtype=torch.float64)
    ssm = companion(1, state=1, skip=False, normalize=False)
    set_to(ssm, a=[[1 - alpha]], B=[[alpha]], C=[[1.0]])
    level, levels = 0.0, []
    for value in u.flatten().tolist():
        level = alpha * value + (1 - alpha) * level
        levels.append(level)
    with torch.no_grad():
        np.testing.assert_allclose(ssm(u).flatten(), levels, atol=1e-12)
        np.testing.assert_allclose(ssm.forecast(u, 10).flatten(), [level] * 10, atol=1e-12)


def test_normalized_powers_stay_bounded_and_raw_draws_would_overflow() -> None:
    ssm = Companion().build(4, seed=0)
    with torch.no_grad():
        bound = ssm.C.abs().amax(dim=-1) * ssm.B.abs().sum(dim=-1)
        assert (ssm.kernels(16384)[0].abs() <= bound).all()
        assert ssm.spectrum().A_bar.abs().max() <= 1 + 1e-9
        raw = companion_kernel(ssm.a.double(), ssm.B.double(), ssm.C.double(), 2048)
        assert not torch.isfinite(raw.float()).all()


def test_without_normalization_it_starts_at_the_same_kernel_but_may_leave_the_stable_region() -> None:
    free, bound = Companion(normalize=False).build(2, seed=0), Companion().build(2, seed=0)
    assert error(free.kernels(16384), bound.kernels(16384)) < 1e-5
    for ssm in (free, bound):
        ssm.a.data.abs_().mul_(2)
    with torch.no_grad():
        assert bound.kernels(4096).abs().max() < 1e4
        assert not free.kernels(4096).abs().max() < 1e4
    assert len(Companion(normalize=False).caveats()) == 1
    assert Companion().caveats() == Shift().caveats() == []


@pytest.mark.parametrize("positive", [False, True])
def test_single_precision_kernel_is_the_recurrence_in_double_over_16384_steps(positive: bool) -> None:
    ssm = Companion(state=8).build(2, seed=0)
    if positive:
        ssm.a.data.abs_()  # an eigenvalue 1: nothing decays
    with torch.no_grad():
        ours, impulse = ssm.kernels(16384)[0], torch.zeros(1, 16384, 2, dtype=torch.float64)
        impulse[:, 0] = 1
        exact = ssm.double().scan(impulse)[0] - ssm.D * impulse[0]
    assert error(ours, exact) < 1e-6
    assert error(ssm.kernels(16384)[0], exact) < 1e-11


@pytest.mark.parametrize("length", [2, 11, 70])
@pytest.mark.parametrize("kind", ["Shift", "Companion"])
def test_all_modes_agree_below_and_above_the_size_of_the_state(kind: str, length: int) -> None:
    ssm = shift(state=9) if kind == "Shift" else companion(state=9)
    u = noise(2, length, 3, dtype=torch.float64)
    truth = step_by_step(ssm, u)
    assert error(ssm(u), truth) < 1e-12
    assert error(ssm.scan(u), truth) < 1e-12
    if length > 5:
        assert error(in_chunks(ssm, u), truth) < 1e-12


def test_the_dense_step_is_the_shifted_one() -> None:
    ssm, u, state = companion(), noise(2, 3, dtype=torch.float64), noise(2, 3, 5, dtype=torch.float64)
    A, B, C = ssm.recurrence()
    y, after = ssm.step(u, state)
    torch.testing.assert_close(after, torch.einsum("hij,bhj->bhi", A, state) + B * u[..., None])
    torch.testing.assert_close(y, (C[0] * after).sum(dim=-1) + ssm.D * u)


def test_rates_and_discrete_time() -> None:
    assert companion().own_rates() == {"a": None, "B": None}
    assert companion(lr_A=0.0, lr_C=1e-3).own_rates() == {"B": None, "C": 1e-3}
    assert shift().own_rates() == {}
    for ssm in (shift(), companion()):
        with pytest.raises(ImpossibleError, match="discrete time"):
            ssm.rate = 2.0


def test_mistakes_are_named_and_a_frozen_start_needs_no_name_for_how_it_is_trained() -> None:
    for kind in (Shift, Companion):
        with pytest.raises(MistakeError, match="state=0"):
            kind(state=0)
        with pytest.raises(MistakeError, match=r"lr_C=-1\.0"):
            kind(lr_C=-1.0)
    with pytest.raises(ImpossibleError, match="equal the one with normalize=True"):
        Companion(normalize=False, lr_A=0)

"""Perturbed HiPPO-LegS: what is diagonalised is A + E, E is as large as asked, and both of its aims are met."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import eig, expm
from scipy.optimize import minimize
from scipy.signal import cont2discrete

from descriptions import ImpossibleError, MistakeError
from ssm_models import Diagonal
from ssm_models.hippo import HIPPO, normal_form
from ssm_models.init import InitWithParameters
from ssm_models.ptd import PTD, _Objective, _of_norm_one, _of_numbers, diagonalised, kernel, response
from ssm_models.transform import TRANSFORMS

torch.set_num_threads(1)

STRENGTHS = [0.01, 0.03, 0.1, 0.3]
SIZES = [8, 16, 32]
Real = NDArray[np.float64]
Complex = NDArray[np.complex128]


def legs(N: int) -> tuple[Real, Real]:
    A, B, _ = HIPPO["legs"](N)
    return A.numpy(), B.numpy()


def perturbed(N: int, strength: float) -> Real:
    return legs(N)[0] + diagonalised(N, strength).E.numpy()


def s4d_legs(N: int) -> Real:
    """Without the low-rank term; its B is half of that of HiPPO."""
    return legs(N)[0] + np.outer(legs(N)[1], legs(N)[1]) / 2


def kappa(matrix: Real) -> float:
    """With eigenvectors of norm 1."""
    return float(np.linalg.cond(np.linalg.eig(matrix)[1]))


def states(A: Real, B: Real, w: Real) -> Complex:
    """(iw - A)^-1 B for each w, by elimination."""
    shifted = 1j * w[:, None, None] * np.eye(len(A)) - A
    rhs = np.broadcast_to(B.astype(complex), (len(w), len(B)))[..., None]
    return np.linalg.solve(shifted, rhs)[..., 0]


def frequencies(N: int) -> Real:
    """A log grid that reaches beyond |A| < N^2, and the frequencies of S4D-LegS."""
    modes = normal_form("legs", N).Lambda.imag.numpy()
    return np.concatenate([[0.0], np.geomspace(1e-2, 4 * N**2, 400), modes])


@pytest.mark.parametrize(("N", "strength"), [(2, 0.1), (4, 0.03), *itertools.product([*SIZES, 64], STRENGTHS)])
def test_what_is_diagonalised_is_a_plus_a_real_e_of_the_asked_size(N: int, strength: float) -> None:
    A, B = legs(N)
    found = diagonalised(N, strength)
    assert found.E.dtype == torch.float64
    assert np.linalg.norm(found.E.numpy(), 2) / np.linalg.norm(A, 2) == pytest.approx(strength, rel=1e-12)
    V, V_inv = (x.numpy() for x in PTD(strength=strength).basis(N))
    Lambda, b = found.Lambda.numpy(), PTD(strength=strength).hippo_b(N).numpy()
    rebuilt = 2 * (V * Lambda @ V_inv).real
    np.testing.assert_allclose(rebuilt, A + found.E.numpy(), atol=1e-11 * np.linalg.norm(A, 2))
    np.testing.assert_allclose(V_inv @ V, np.eye(N // 2), atol=1e-11)
    np.testing.assert_allclose(V_inv @ V.conj(), 0, atol=1e-11)
    np.testing.assert_allclose(np.linalg.norm(V, axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(2 * (V @ b).real, B, atol=1e-11 * N)
    assert (b.imag == 0).all()
    assert (b.real > 0).all()


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("N", SIZES)
def test_the_spectrum_is_stable_and_all_of_it_in_conjugate_pairs(N: int, strength: float) -> None:
    ours = diagonalised(N, strength).Lambda.numpy()
    assert (ours.real <= -0.5 + 1e-9).all()
    assert (ours.imag > 0).all()
    assert (np.diff(ours.imag) > 0).all()
    theirs = eig(perturbed(N, strength))[0]
    both = np.concatenate([ours, ours.conj()])
    distance = np.abs(both[:, None] - theirs[None, :])
    assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) < 1e-9 * N**2


@pytest.mark.parametrize("strength", [0.001, 0.1, 0.7])
def test_stability_is_that_of_the_symmetric_part_and_not_luck(strength: float) -> None:
    """Bendixson: no eigenvalue is to the right of the largest one of the symmetric part."""
    for N in (32, 128):
        M = perturbed(N, strength)
        assert np.linalg.eigvalsh((M + M.T) / 2).max() == pytest.approx(-0.5, abs=1e-9 * N**2)


# ||E|| / ||A|| and kappa of the authors' published perturbations, which are complex.
PUBLISHED = {8: (0.098, 5.1), 16: (0.082, 4.5), 32: (0.038, 8.3), 64: (0.034, 9.2), 128: (0.032, 8.0)}


@pytest.mark.parametrize("N", PUBLISHED)
def test_eigenvectors_are_as_well_conditioned_as_the_published_ones_of_the_same_size(N: int) -> None:
    strength, condition = PUBLISHED[N]
    assert kappa(perturbed(N, strength)) < (1.25 if N == 128 else 1.05) * condition


@pytest.mark.parametrize("N", [16, 32, 64])
def test_the_condition_number_falls_as_one_over_strength(N: int) -> None:
    conditions = [kappa(perturbed(N, strength)) for strength in STRENGTHS]
    assert conditions == sorted(conditions, reverse=True)
    for strength, condition in zip(STRENGTHS, conditions, strict=True):
        assert condition == pytest.approx(0.27 / strength + 1, rel=0.1)
        assert PTD(strength=strength).report(N).condition == pytest.approx(condition, rel=1e-9)


def test_a_itself_cannot_be_diagonalised() -> None:
    A, _ = legs(16)
    assert kappa(A) > 1e8
    assert kappa(perturbed(16, 0.003)) < 100


@pytest.mark.parametrize("strength", [0.01, 0.1])
def test_a_random_perturbation_of_the_same_size_is_worse_conditioned_and_unstable(strength: float) -> None:
    A, _ = legs(32)
    found = kappa(perturbed(32, strength))
    for seed in range(3):
        E = np.random.default_rng(seed).standard_normal(A.shape)
        E *= strength * np.linalg.norm(A, 2) / np.linalg.norm(E, 2)
        assert kappa(A + E) > 5 * found
        assert np.linalg.eigvals(A + E).real.max() > 0
        skew = E - E.T
        skew *= strength * np.linalg.norm(A, 2) / np.linalg.norm(skew, 2)
        assert kappa(A + skew) > 3 * found


@pytest.mark.parametrize("N", [16, 64])
def test_the_transfer_function_is_near_that_of_hippo_where_s4d_has_its_spikes(N: int) -> None:
    """Over the largest |x(iw)|, which is 1: x(0) = (1, 0, ..., 0)."""
    (A, B), w = legs(N), frequencies(N)
    x = states(A, B, w)
    assert np.linalg.norm(x, axis=1).max() == pytest.approx(1, abs=1e-9)
    for strength in (0.01, 0.03, 0.1):
        deviation = np.linalg.norm(states(perturbed(N, strength), B, w) - x, axis=1)
        assert deviation.max() < 2.5 * strength
        assert PTD(strength=strength).report(N).deviation == pytest.approx(deviation.max(), rel=0.02)
    top = frequencies(N)[-1:]
    s4d = np.linalg.norm(states(s4d_legs(N), B / 2, top) - states(A, B, top))
    assert s4d == pytest.approx(0.636 * N, rel=0.02)
    assert np.linalg.norm(states(perturbed(N, 0.1), B, top) - states(A, B, top)) < 0.05


def test_the_condition_number_alone_would_give_up_the_transfer_function(monkeypatch: pytest.MonkeyPatch) -> None:
    (A, B), w = legs(32), frequencies(32)
    monkeypatch.setattr("ssm_models.ptd.FIDELITY", 0.0)
    M = kernel.__wrapped__(32, 0.1)
    alone = _Objective(32, 0.1).perturbed(M).numpy()
    assert 0.8 * kappa(perturbed(32, 0.1)) < kappa(alone) < kappa(perturbed(32, 0.1))
    x = states(A, B, w)
    assert np.linalg.norm(states(alone, B, w) - x, axis=1).max() > 1.5 * PTD().report(32).deviation


@pytest.mark.parametrize("N", [16, 64])
def test_the_average_keeps_its_transfer_function_and_that_of_s4d_has_a_spike_at_every_n(N: int) -> None:
    """G_0(s) = 1 / (s + 1), the exponential average."""
    (_, B), w = legs(N), frequencies(N)
    for strength, error in ((0.03, 0.012), (0.1, 0.05)):
        assert np.abs(states(perturbed(N, strength), B, w)[:, 0] - 1 / (1j * w + 1)).max() < error
    s4d = np.abs(states(s4d_legs(N), B / 2, w)[:, 0] - 1 / (1j * w + 1))
    assert s4d.max() == pytest.approx(2 / math.pi, rel=0.005)
    assert w[s4d.argmax()] > 0.3 * N**2


@pytest.mark.parametrize("N", [1, 2, 7, 40])
def test_response_is_the_resolvent(N: int) -> None:
    w = np.array([0.0, 0.3, 5.0, 200.0])
    expected = states(*legs(N), w).T
    np.testing.assert_allclose(response(1j * torch.from_numpy(w), N).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("N", [2, 4, 16])
def test_the_gradient_of_the_objective_is_that_of_its_differences(N: int) -> None:
    objective, rng = _Objective(N, 0.2), np.random.default_rng(0)
    numbers = rng.standard_normal({2: 2, 4: 7, 16: 7}[N])
    _, gradient = objective(numbers)
    for i, step in enumerate(1e-6 * np.eye(len(numbers))):
        difference = (objective(numbers + step)[0] - objective(numbers - step)[0]) / 2e-6
        assert gradient[i] == pytest.approx(difference, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("strength", [0.03, 0.1])
def test_no_other_start_of_the_search_finds_a_better_minimum(strength: float) -> None:
    """The best end with conjugate pairs only is the one kept, but for the rounding."""
    objective, ends = _Objective(16, strength), []
    kept = objective.value(objective.perturbed(kernel(16, strength))).item()
    for seed in range(6):
        end = minimize(objective, np.random.default_rng(seed).standard_normal(7), jac=True, method="BFGS")
        if objective.in_pairs(_of_norm_one(_of_numbers(torch.from_numpy(end.x)))):
            ends.append(end.fun)
    assert len(ends) >= 2
    assert kept == pytest.approx(min(ends), abs=2e-3)


def test_one_kernel_serves_every_state_size() -> None:
    at_32, at_256 = PTD().report(32), PTD().report(256)
    assert at_256.condition == pytest.approx(at_32.condition, rel=0.02)
    assert at_256.deviation == pytest.approx(at_32.deviation, rel=0.15)
    assert at_256.size == pytest.approx(0.1)
    assert at_256.backward_error < 1e-13
    assert at_256.largest_real < -0.5


def test_another_process_with_other_threads_finds_the_same_kernel_and_eigenvalues() -> None:
    program = (
        "import torch; torch.set_num_threads(2); from ssm_models.ptd import kernel, diagonalised;"
        "print(*(x.hex() for x in kernel(32, 0.1).flatten().tolist()));"
        "print(*torch.view_as_real(diagonalised(48, 0.1).Lambda).flatten().tolist())"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    entries, eigenvalues = output.splitlines()
    assert entries.split() == [x.hex() for x in kernel(32, 0.1).flatten().tolist()]
    ours = torch.view_as_real(diagonalised(48, 0.1).Lambda).flatten().numpy()
    np.testing.assert_allclose([float(x) for x in eigenvalues.split()], ours, rtol=1e-11)


def test_a_search_runs_where_gradients_are_off() -> None:
    with torch.inference_mode():
        inside = diagonalised(8, 0.123).Lambda
    kernel.cache_clear()
    diagonalised.cache_clear()
    np.testing.assert_array_equal(inside.numpy(), diagonalised(8, 0.123).Lambda.numpy())


@pytest.mark.parametrize("strength", [0, -0.1, 1.01, math.nan, math.inf, "large", None, True])
def test_a_strength_that_is_no_ratio_is_a_mistake(strength: object) -> None:
    with pytest.raises(MistakeError, match="strength"):
        PTD(strength=strength)  # type: ignore[arg-type]


IMPOSSIBLE = {
    "leaves real eigenvalues": (0.01, 2),
    "a larger strength": (1e-9, 32),
    "low-rank term, which is strength=0.785": (0.9, 32),
}


@pytest.mark.parametrize("sentence", IMPOSSIBLE)
def test_a_strength_that_cannot_do_at_a_state_size_is_impossible(sentence: str) -> None:
    strength, N = IMPOSSIBLE[sentence]
    with pytest.raises(ImpossibleError, match=sentence):
        PTD(strength=strength).check(4, N)
    with pytest.raises(ImpossibleError, match=sentence):
        Diagonal(state=N, init=PTD(strength=strength)).build(4, 0)


def test_it_is_an_init_with_parameters_and_the_same_for_all_copies() -> None:
    init = PTD()
    assert isinstance(init, InitWithParameters)
    assert not init.differs_between_copies
    assert init == PTD(strength=0.1)
    modes = init.modes(3, 16, torch.Generator())
    assert modes.shape == (3, 8)
    assert modes.dtype == torch.complex128
    for copy in modes:
        torch.testing.assert_close(copy, init.extremes(16), rtol=0, atol=0)


@pytest.mark.parametrize("transform", [name for name in TRANSFORMS if name != "sigmoid"])
def test_a_diagonal_layer_starts_there_under_every_transform_that_can_hold_it(transform: str) -> None:
    ssm = Diagonal(init=PTD(), state=16, B_init="hippo", real_transform=transform).build(4, 0)
    expected = PTD().extremes(16).repeat(4, 1)
    torch.testing.assert_close(ssm.eigenvalues().detach(), expected, rtol=1e-6, atol=1e-6)
    B = torch.view_as_complex(ssm.B.detach()).to(torch.complex128)
    torch.testing.assert_close(B, PTD().hippo_b(16).repeat(4, 1), rtol=1e-6, atol=1e-6)
    assert torch.isfinite(ssm(torch.randn(2, 20, 4))).all()


def test_a_sigmoid_cannot_hold_it() -> None:
    with pytest.raises(ImpossibleError, match="sigmoid"):
        Diagonal(init=PTD(), state=16, real_transform="sigmoid")


def test_the_diagonal_layer_is_the_dense_perturbed_system() -> None:
    """C x = 2 Re(C V z): with C V for C, the taps are those of zoh of (A + E, B, C)."""
    N, dt, length = 16, 0.02, 60
    ssm = Diagonal(
        state=N, init=PTD(), B_init="hippo", dt_min=dt, dt_max=dt, real_transform="none", n_ssm=1, skip=False
    ).build(1, 0)
    V, _ = PTD().basis(N)
    C = np.random.default_rng(0).standard_normal((1, N))
    ssm.C.data = torch.view_as_real((torch.from_numpy(C) + 0j) @ V)[None].float()
    A_bar, B_bar, *_ = cont2discrete((perturbed(N, 0.1), legs(N)[1][:, None], C, np.zeros((1, 1))), dt)
    np.testing.assert_allclose(A_bar, expm(dt * perturbed(N, 0.1)), atol=1e-12)
    taps = [(C @ np.linalg.matrix_power(A_bar, k) @ B_bar).item() for k in range(length)]
    np.testing.assert_allclose(ssm.kernels(length)[0, :, 0].detach().numpy(), taps, atol=1e-5 * np.abs(taps).max())

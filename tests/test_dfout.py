"""S4D-DFouT: its kernel is a sum of damped oscillations, and its frequencies cover the circle as they are said to."""

import math

import numpy as np
import pytest
import torch
from lattice import error

from descriptions import ImpossibleError, MistakeError, seed_for
from ssm_models.structures.dfout import FREQUENCIES, DFouT, DFouTLayer

torch.set_num_threads(1)


def layer(width: int = 3, seed: int = 0, **fields: object) -> DFouTLayer:
    return DFouT(**{"state": 8, **fields}).build(width, seed).double()


def omegas(name: str, H: int = 4, N: int = 8) -> np.ndarray:
    return FREQUENCIES[name](H, N, torch.Generator().manual_seed(0)).numpy()


@pytest.mark.parametrize("name", FREQUENCIES)
def test_kernel_is_a_sum_of_damped_cosines(name: str) -> None:
    ssm = layer(frequencies=name, bidirectional=True)
    xi, Omega = torch.exp(ssm.log_xi).detach().numpy(), ssm.Omega.detach().numpy()
    C = torch.view_as_complex(ssm.C).detach().numpy()
    terms = [np.exp(-xi * step / 2) * 2 * np.abs(C) * np.cos(Omega * step + np.angle(C)) for step in range(50)]
    expected = np.stack(terms, axis=1).sum(axis=-1)  # (S, L, H)
    np.testing.assert_allclose(ssm.kernels(50).detach(), expected, atol=1e-11)


@pytest.mark.parametrize("name", ["interleaved", "batched"])
def test_all_channels_together_sample_the_half_circle_evenly(name: str) -> None:
    np.testing.assert_allclose(np.sort(omegas(name).ravel()), math.pi * np.arange(16) / 16, atol=1e-12)


def test_a_channel_has_the_whole_half_circle_or_one_band_of_it() -> None:
    np.testing.assert_allclose(np.diff(omegas("interleaved")), 2 * math.pi / 8)
    np.testing.assert_allclose(np.diff(omegas("batched")), 2 * math.pi / 32)
    np.testing.assert_allclose(omegas("interleaved")[:, 0], 2 * math.pi * np.arange(4) / 32)
    np.testing.assert_allclose(omegas("batched")[:, 0], math.pi * np.arange(4) / 4)


def test_one_channel_is_the_same_interleaved_uniform_or_batched() -> None:
    for name in ("interleaved", "batched"):
        np.testing.assert_allclose(omegas(name, H=1), omegas("uniform", H=1))


def test_undamped_uniform_poles_and_their_conjugates_are_roots_of_unity_that_reach_any_kernel_of_their_count() -> None:
    poles = np.exp(1j * omegas("uniform")[0])
    np.testing.assert_allclose(poles**8, np.ones(4), atol=1e-12)
    n, steps = np.arange(4), np.arange(7)  # 1 mode at 0 and 3 pairs: 7 real numbers
    basis = np.concatenate(
        [np.cos(np.outer(steps, 2 * math.pi * n / 8)), np.sin(np.outer(steps, 2 * math.pi * n[1:] / 8))], 1
    )
    assert np.linalg.cond(basis) < 10


def test_token_poles_repeat_after_one_two_three_steps() -> None:
    Omega = omegas("token")
    assert ((Omega >= 0) & (Omega <= math.pi)).all()
    for p in range(1, 5):
        np.testing.assert_allclose(np.exp(1j * p * Omega[:, p - 1]), np.ones(4), atol=1e-12)
        if p > 1:
            assert abs(np.exp(1j * (p - 1) * Omega[0, p - 1]) - 1) > 0.1


def test_random_frequencies_cover_the_whole_circle() -> None:
    Omega = omegas("random", H=512)
    assert Omega.mean() == pytest.approx(math.pi, abs=0.15)
    assert Omega.std() == pytest.approx(2 * math.pi / math.sqrt(12), abs=0.1)
    assert ((Omega >= 0) & (Omega < 2 * math.pi)).all()


def test_damping_is_log_uniform_and_shared_by_a_channel() -> None:
    ssm = DFouT(xi_min=1e-3, xi_max=1e-1).build(512, seed=0)
    assert ssm.log_xi.shape == (512, 1)
    assert ssm.log_xi.min() >= math.log(1e-3)
    assert ssm.log_xi.max() <= math.log(1e-1)
    assert ssm.log_xi.mean().item() == pytest.approx(math.log(1e-2), abs=0.15)
    moduli = ssm.spectrum().A_bar.abs()
    torch.testing.assert_close(moduli, torch.exp(-torch.exp(ssm.log_xi.double()) / 2).expand(512, 32))


@pytest.mark.parametrize("name", FREQUENCIES)
def test_single_precision_kernel_is_the_double_precision_one_over_16384_steps(name: str) -> None:
    ssm = DFouT(frequencies=name, xi_min=1e-4).build(3, seed=0)
    assert error(ssm.kernels(16384), ssm.double().kernels(16384)) < 2e-6


def test_arms_that_differ_in_their_frequencies_start_with_the_same_c_xi_and_d() -> None:
    base = layer().state_dict()
    for name in FREQUENCIES:
        other = layer(frequencies=name).state_dict()
        assert all(torch.equal(base[key], other[key]) for key in ("C", "log_xi", "D"))
    drawn = FREQUENCIES["random"](3, 8, torch.Generator().manual_seed(seed_for(0, "A")))
    torch.testing.assert_close(layer(frequencies="random").Omega.detach(), drawn, rtol=1e-6, atol=0)


def test_it_has_no_step_size_to_change() -> None:
    with pytest.raises(ImpossibleError, match="discrete time"):
        layer().rate = 2.0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"frequencies": "unifrom"}, "Did you mean 'uniform'"),
        ({"state": 7}, "state=7"),
        ({"xi_min": 0.0}, "0 < xi_min"),
        ({"xi_min": 1.0}, "xi_min <= xi_max"),
        ({"lr_C": -1.0}, "lr_C=-1.0"),
    ],
)
def test_mistakes_are_named(fields: dict[str, object], says: str) -> None:
    with pytest.raises(MistakeError) as raised:
        DFouT(**fields)
    assert says in str(raised.value)


def test_caveats_say_what_the_names_do_not() -> None:
    assert DFouT().caveats() == []
    assert len(DFouT(frequencies="random", bidirectional=True).caveats()) == 2

"""EMA: its kernel is the published sum, in both directions, and it starts as published."""

import numpy as np
import pytest
import torch
from lattice import error, noise
from torch import Tensor

from descriptions import ImpossibleError, MistakeError
from ssm_models.structures.ema import EMA, EMALayer

torch.set_num_threads(1)


def layer(width: int = 3, seed: int = 0, **fields: object) -> EMALayer:
    return EMA(**{"state": 5, **fields}).build(width, seed).double()


def sigmoid(x: Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-x.detach().numpy()))


def published_kernel(ssm: EMALayer, direction: int, length: int) -> np.ndarray:
    """K_l = sum_n sigmoid(delta_n) beta_n gamma_n q_n^l / sqrt(N), term by term, (L, H)."""
    p, delta = sigmoid(ssm.alpha[direction]), sigmoid(ssm.delta[direction])
    beta, gamma = ssm.B[direction].detach().numpy(), ssm.C[direction].detach().numpy()
    q = 1 - p * delta
    return np.stack([(delta * beta * gamma * q**step).sum(axis=-1) for step in range(length)]) / np.sqrt(q.shape[-1])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_y_is_the_published_sum_over_earlier_and_over_later_steps(bidirectional: bool) -> None:
    ssm, u = layer(bidirectional=bidirectional), noise(1, 12, 3, dtype=torch.float64)
    kernels = [published_kernel(ssm, direction, 12) for direction in range(1 + bidirectional)]
    expected = ssm.D.detach().numpy() * u[0].numpy()
    for i in range(12):
        for j in range(12):
            if j <= i:
                expected[i] += kernels[0][i - j] * u[0, j].numpy()
            elif bidirectional:  # the reverse kernel acts with its tap j - i; its tap 0 is left out
                expected[i] += kernels[1][j - i] * u[0, j].numpy()
    np.testing.assert_allclose(ssm(u)[0].detach(), expected, atol=1e-10)
    np.testing.assert_allclose(ssm.scan(u)[0].detach(), expected, atol=1e-10)


def test_each_direction_has_parameters_of_its_own_and_the_first_those_of_the_causal_layer() -> None:
    one, two = layer(), layer(bidirectional=True)
    for name in ("alpha", "delta", "B", "C"):
        causal, both = one.get_parameter(name), two.get_parameter(name)
        assert torch.equal(causal[0], both[0])
        assert not torch.equal(both[0], both[1])


def test_distributions_at_the_start() -> None:
    ssm = EMA(state=16, bidirectional=True).build(256, seed=0)
    assert ssm.alpha.std().item() == pytest.approx(0.2, abs=0.01)
    assert ssm.delta.std().item() == pytest.approx(0.2, abs=0.01)
    assert ssm.C.std().item() == pytest.approx(1, abs=0.05)
    assert ssm.D.std().item() == pytest.approx(1, abs=0.15)
    noise_of_beta = ssm.B - (-1.0) ** torch.arange(16)
    assert noise_of_beta.std().item() == pytest.approx(0.02, abs=0.002)
    q = ssm.spectrum().A_bar.real
    assert q.mean().item() == pytest.approx(0.75, abs=0.01)


def test_every_q_stays_between_zero_and_one_and_is_accurate_near_one() -> None:
    ssm = layer()
    ssm.alpha.data.fill_(-20.0)
    ssm.delta.data.fill_(-18.0)
    log_q = ssm.recurrence().log_a.real
    expected = -1 / (1 + np.exp(20.0)) / (1 + np.exp(18.0))  # log(1 - x) = -x: 1 - x itself is 1 in double precision
    torch.testing.assert_close(log_q, torch.full_like(log_q, expected), rtol=1e-12, atol=0)
    ssm.alpha.data.fill_(30.0)
    ssm.delta.data.fill_(30.0)
    assert torch.isfinite(ssm.kernels(16384)).all()


def test_single_precision_kernel_is_the_double_precision_one_over_16384_steps() -> None:
    ssm = EMA(bidirectional=True).build(3, seed=0)
    assert error(ssm.kernels(16384), ssm.double().kernels(16384)) < 2e-6


def test_it_has_no_step_size_to_change_and_bidirectional_no_step() -> None:
    with pytest.raises(ImpossibleError, match="discrete time"):
        layer().rate = 2.0
    with pytest.raises(ImpossibleError, match="sees the future"):
        layer(bidirectional=True).stepper()
    assert EMA().caveats() == []
    assert len(EMA(bidirectional=True).caveats()) == 1


def test_no_rate_is_the_trainers_and_decays_gamma_alone() -> None:
    assert layer().own_rates() == {"alpha": None, "delta": None, "B": None}
    assert layer(lr_A=0.0, lr_C=1e-3).own_rates() == {"B": None, "C": 1e-3}


def test_mistakes_are_named() -> None:
    for fields, says in (({"state": 0}, "state=0"), ({"lr_A": -1.0}, "lr_A=-1.0"), ({"state": 2.5}, "state=2.5")):
        with pytest.raises(MistakeError, match=says):
            EMA(**fields)

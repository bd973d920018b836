"""Parameterisations of Re lambda: they invert, they keep the sign, their gradients are as documented."""

import pytest
import torch

from ssm_models.transform import SMALLEST, TRANSFORMS

CONSTRAINED = [name for name in TRANSFORMS if name != "none"]
MAGNITUDES = torch.tensor([SMALLEST, 1e-3, 0.5, 1.0, 32.0, 1e3], dtype=torch.float64)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_inverse_then_forward_is_the_identity(name: str) -> None:
    f = TRANSFORMS[name]
    m = MAGNITUDES[f.below > MAGNITUDES]
    assert len(m) >= 3
    torch.testing.assert_close(f.forward(f.inverse(m)), m, rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_inverse_then_forward_is_the_identity_in_single_precision(name: str) -> None:
    f = TRANSFORMS[name]
    m = MAGNITUDES[f.below > MAGNITUDES].float()
    torch.testing.assert_close(f.forward(f.inverse(m)), m, rtol=2e-6, atol=1e-10)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_magnitudes_below_the_smallest_are_lifted_to_it(name: str) -> None:
    f = TRANSFORMS[name]
    tiny = torch.tensor([0.0, 1e-9, -1.0], dtype=torch.float64)
    torch.testing.assert_close(f.forward(f.inverse(tiny)), torch.full_like(tiny, SMALLEST), rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", CONSTRAINED)
def test_no_parameter_makes_the_state_grow(name: str) -> None:
    p = torch.linspace(-20, 20, 401, dtype=torch.float64)
    assert (TRANSFORMS[name].forward(p) > 0).all()
    assert (TRANSFORMS[name].forward(p) < TRANSFORMS[name].below).all()


def test_the_logit_of_a_value_of_one_or_more_is_not_a_number_which_is_why_such_starts_are_refused() -> None:
    assert not torch.isfinite(TRANSFORMS["sigmoid"].inverse(torch.tensor([1.0, 2.0]))).any()


def test_none_keeps_any_sign() -> None:
    p = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(TRANSFORMS["none"].forward(TRANSFORMS["none"].inverse(p)), p)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_gradients_are_right_and_finite(name: str) -> None:
    p = torch.tensor([-3.0, -0.1, 0.1, 2.0, 30.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(TRANSFORMS[name].forward, (p / 10,), atol=1e-5)
    zero = torch.zeros(1, requires_grad=True)
    TRANSFORMS[name].forward(zero).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_relu_freezes_a_mode_whose_parameter_is_negative() -> None:
    p = torch.tensor([-0.1], requires_grad=True)
    magnitude = TRANSFORMS["relu"].forward(p)
    magnitude.sum().backward()
    assert magnitude.item() == pytest.approx(SMALLEST)
    assert p.grad.item() == 0

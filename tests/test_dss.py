"""DSS: the factored softmax is the direct one, each kernel is its formula, the start is that of the authors."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from lattice import error, in_chunks, noise, step_by_step
from torch import Tensor

from descriptions import ImpossibleError, MistakeError
from ssm_models.init import Mixed
from ssm_models.structures.dss import DSS, KERNELS, DSSLayer, softmax_kernels

torch.set_num_threads(1)

RECURRENT = [name for name in KERNELS if name != "softmax"]
# What each kernel makes of the stored p = -Re Lambda or log(-Re Lambda), q, and of (Lambda, dt).
RE: dict[str, Callable[[Tensor], Tensor]] = {"softmax": lambda p: -p, "clip": lambda p: torch.minimum(-p, 1e-4 + 0 * p)}


def layer(width: int = 3, seed: int = 0, **fields: object) -> DSSLayer:
    return DSS(**{"state": 5, "dt_min": 1e-2, **fields}).build(width, seed).double()


def scattered(**fields: object) -> DSSLayer:
    """A layer away from its start: Re Lambda of both signs where it can have them, and a trained-looking rest."""
    ssm = layer(n_ssm=None, **fields)
    for i, parameter in enumerate(ssm.parameters()):
        parameter.data += 0.7 * noise(*parameter.shape, dtype=torch.float64, seed=i)
    return ssm


def lambda_and_z(ssm: DSSLayer) -> tuple[Tensor, Tensor]:
    kernel, dt = ssm.description.kernel, torch.exp(ssm.inv_dt)
    re = RE.get(kernel, lambda p: -torch.exp(p))(ssm.A_re)
    im = torch.exp(ssm.A_im) if kernel == "exp_re_im" else ssm.A_im
    return torch.complex(re, im), torch.complex(dt[:, :1] * re, dt[:, -1:] * im)


def direct_softmax(W: Tensor, A: Tensor, z: Tensor, length: int) -> Tensor:
    """One exponential a tap, divided by their sum; the reciprocal is guarded as in the authors' code."""
    P = z[..., None] * torch.arange(length)
    last = torch.where(z.real > 0, length - 1, 0)
    S = torch.exp(P - z[..., None] * last[..., None])
    first = torch.exp(torch.where(z.real > 0, -z, z)) - 1
    x = first * S.sum(dim=-1) * A
    scale = first * x.conj() / (x.abs() ** 2 + 1e-7)
    return (W[..., None] * scale[..., None] * S).sum(dim=-2).real.transpose(-1, -2)


@pytest.mark.parametrize("dt_parts", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_factored_softmax_is_the_direct_one_forward_and_backward(bidirectional: bool, dt_parts: bool) -> None:
    ssm = scattered(bidirectional=bidirectional, dt_parts=dt_parts)
    assert (ssm.A_re < 0).any()
    assert (ssm.A_re > 0).any()
    weight = noise(1 + bidirectional, 37, 3, dtype=torch.float64)
    results = []
    for taps in (ssm.kernels(37), direct_softmax(torch.view_as_complex(ssm.C), *lambda_and_z(ssm), 37)):
        results.append((taps, *torch.autograd.grad((taps * weight).sum(), (ssm.A_re, ssm.A_im, ssm.C, ssm.inv_dt))))
    for ours, truth in zip(*results, strict=True):
        assert error(ours, truth) < 1e-9


def test_a_real_mode_is_torch_softmax_and_every_mode_sums_to_its_w_over_lambda() -> None:
    A = torch.tensor([[-0.7, 0.4]], dtype=torch.complex128)  # decaying and growing, far from where reciprocals matter
    W = torch.ones(1, 1, 2, dtype=torch.complex128)
    rows = torch.softmax(A[0].real[:, None] * torch.arange(50), dim=-1)
    expected = (rows / A[0].real[:, None]).sum(dim=0)
    torch.testing.assert_close(softmax_kernels(W, A, A, 50)[0, :, 0], expected, rtol=1e-5, atol=0)
    ssm = scattered(dt_min=0.1, dt_max=0.3)
    expected = (torch.view_as_complex(ssm.C)[0] / lambda_and_z(ssm)[0]).sum(dim=-1).real
    torch.testing.assert_close(ssm.kernels(200)[0].sum(dim=0), expected, rtol=1e-5, atol=1e-5)


def test_a_growing_mode_does_not_overflow_over_16384_steps() -> None:
    A = torch.tensor([[0.1 + 3j]], dtype=torch.complex128, requires_grad=True)
    W, z = torch.ones(1, 1, 1, dtype=torch.complex64), 0.1 * A
    naive = torch.exp(z.detach() * torch.arange(16384)).to(torch.complex64)
    assert not torch.isfinite(naive.real).all()
    K = softmax_kernels(W, A, z, 16384)[0, :, 0]
    K.square().sum().backward()
    assert torch.isfinite(K).all()
    assert torch.isfinite(torch.view_as_real(A.grad)).all()
    assert K[:16000].abs().max() < 1e-1 * K[16000:].abs().max()  # the oldest inputs weigh most


def test_a_mode_whose_sum_is_zero_has_a_finite_kernel_and_gradient() -> None:
    A = torch.tensor([[2j * math.pi]], dtype=torch.complex128, requires_grad=True)  # e^{zL} = 1 at dt = 1/L
    K = softmax_kernels(torch.ones(1, 1, 1, dtype=torch.complex128), A, A / 64, 64)
    K.square().sum().backward()
    assert torch.exp(A / 64 * torch.arange(64)).sum().abs() < 1e-10
    assert torch.isfinite(K).all()
    assert torch.isfinite(torch.view_as_real(A.grad)).all()


def test_softmax_at_another_length_is_another_kernel() -> None:
    short, long = (DSS().build(64, seed=0).kernels(length)[0, :128] for length in (128, 256))
    change = ((short - long).norm() / long.norm()).item()
    assert 0.1 < change < 10
    assert any("another length" in sentence for sentence in DSS().caveats())


@pytest.mark.parametrize("name", KERNELS)
def test_single_precision_kernel_is_the_double_precision_one_over_16384_steps(name: str) -> None:
    ssm = DSS(kernel=name).build(2, seed=0)
    single = ssm.kernels(16384)
    assert single.dtype == torch.float32
    assert error(single, ssm.double().kernels(16384)) < 3e-6


@pytest.mark.parametrize("dt_parts", [False, True])
@pytest.mark.parametrize("name", RECURRENT)
def test_the_other_kernels_are_sums_of_scaled_exponentials(name: str, dt_parts: bool) -> None:
    ssm = scattered(kernel=name, dt_parts=dt_parts)
    A, z = (x.detach().numpy() for x in lambda_and_z(ssm))
    scale = np.ones_like(z) if name == "exp_no_scale" else (np.exp(z) - 1) / A
    W = torch.view_as_complex(ssm.C)[0].detach().numpy()
    expected = np.stack([(W * scale * np.exp(z * step)).sum(axis=-1).real for step in range(30)])
    np.testing.assert_allclose(ssm.kernels(30)[0].detach(), expected, atol=1e-10 * np.abs(expected).max())


def test_clip_lets_a_mode_grow_by_at_most_a_ten_thousandth() -> None:
    ssm = layer(kernel="clip", dt_max=0.1)
    ssm.A_re.data.fill_(-5.0)
    torch.testing.assert_close(ssm.eigenvalues().real, torch.full((3, 5), 1e-4, dtype=torch.float64))
    assert torch.isfinite(ssm.kernels(16384)).all()
    u = noise(2, 11, 3, dtype=torch.float64)
    for run in (ssm.scan, lambda u: step_by_step(ssm, u), lambda u: in_chunks(ssm, u)):
        assert error(run(u), ssm(u)) < 1e-9


def test_the_start_is_the_positive_half_of_the_spectrum_of_hippo_legs_at_twice_the_size() -> None:
    n = np.arange(10)
    legs = np.tril(np.sqrt(np.outer(2 * n + 1, 2 * n + 1)), -1)
    frequencies = np.sort(np.linalg.eigvals((legs - legs.T) / 2).imag)[5:]
    for name in KERNELS:
        A = layer(kernel=name).eigenvalues().detach().numpy()
        np.testing.assert_allclose(A, np.tile(-0.5 + 1j * frequencies, (3, 1)), rtol=1e-6)


def test_w_has_a_mean_square_of_two() -> None:
    C = DSS().build(256, seed=0).C
    assert C.square().sum(dim=-1).mean().item() == pytest.approx(2, abs=0.1)


def test_both_step_sizes_start_equal_and_are_two_parameters() -> None:
    one, two = layer(), layer(dt_parts=True)
    u = noise(1, 9, 3, dtype=torch.float64)
    assert two.inv_dt.shape == (3, 2)
    torch.testing.assert_close(one(u), two(u))
    two.inv_dt.data[:, 1] += 1  # Im alone
    torch.testing.assert_close(two.exponents()[1].real, one.exponents()[1].real)
    torch.testing.assert_close(two.exponents()[1].imag, math.e * one.exponents()[1].imag)
    spectrum = two.spectrum()
    torch.testing.assert_close(torch.exp(spectrum.A * spectrum.dt), spectrum.A_bar)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kernel": "softmaxx"}, "Did you mean 'softmax'"),
        ({"init": "leggs"}, "Did you mean 'legs'"),
        ({"state": 0}, "state=0"),
        ({"n_ssm": 0}, "n_ssm=0"),
        ({"lr_C": -1.0}, "lr_C=-1.0"),
    ],
)
def test_mistakes_are_named(fields: dict[str, object], says: str) -> None:
    with pytest.raises(MistakeError) as raised:
        DSS(**fields)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kernel": "clip", "lr_A": 0}, "equal the one with kernel='exp'"),
        ({"kernel": "exp_re_im", "lr_A": 0}, "equal the one with kernel='exp'"),
        ({"n_ssm": None, "lr_A": 0}, "equal the one with n_ssm=1"),
        ({"dt_parts": True, "lr_dt": 0}, "equal the one with dt_parts=False"),
    ],
)
def test_an_arm_that_equals_another_is_impossible(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ImpossibleError, match=says):
        DSS(**fields)


def test_copies_are_shared_out_evenly() -> None:
    DSS(n_ssm=None, lr_A=0, init="rand").check(3)
    with pytest.raises(ImpossibleError, match="n_ssm=2 does not divide width=3"):
        DSS(n_ssm=2).build(3, seed=0)
    with pytest.raises(ImpossibleError, match="2 divides, not 1"):
        DSS(init=Mixed(("legs", "lin"))).check(2)
    ssm = layer(4, init="rand", n_ssm=2)
    assert torch.equal(ssm.eigenvalues()[0], ssm.eigenvalues()[2])
    assert not torch.equal(ssm.eigenvalues()[0], ssm.eigenvalues()[1])


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 2),
        ({"kernel": "exp"}, 0),
        ({"kernel": "exp", "init": "fout", "bidirectional": True}, 2),
        ({"kernel": "clip"}, 1),
        ({"kernel": "exp_no_scale"}, 1),
        ({"kernel": "exp_re_im"}, 1),
    ],
)
def test_caveats_say_what_the_names_do_not(fields: dict[str, object], count: int) -> None:
    assert len(DSS(**fields).caveats()) == count

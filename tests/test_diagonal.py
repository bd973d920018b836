"""The S4D layer: its three ways to run agree, its kernel is the dense one, its fields do what they say."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from lattice import error, noise
from scipy.linalg import expm
from scipy.signal import cont2discrete
from scipy.stats import kstest

from descriptions import ImpossibleError, MistakeError, seed_for
from ssm_models import SSM, Diagonal, Structure
from ssm_models.discretize import DISCRETIZATIONS, GBT
from ssm_models.hippo import normal_form
from ssm_models.init import INITS, Mixed
from ssm_models.inputs import C_INITS
from ssm_models.kernel import vandermonde_direct
from ssm_models.ptd import PTD
from ssm_models.structures.diagonal import DiagonalLayer
from ssm_models.transform import TRANSFORMS

torch.set_num_threads(1)

SCIPY = {"forward_euler": "euler", "backward_euler": "backward_diff"}
STEPS = {"forward_euler": {"dt_min": 1e-6, "dt_max": 2e-5}}  # stable for every law at N = 8


def layer(width: int = 3, seed: int = 0, **fields: object) -> DiagonalLayer:
    return Diagonal(**{"state": 8, **fields}).build(width, seed)


def dense_kernel(ssm: DiagonalLayer, h: int, length: int) -> np.ndarray:
    """Taps of channel h from the real dense system of size N: each mode is a 2 x 2 block on (Re x, Im x)."""
    description = ssm.description
    A, dt = ssm.eigenvalues()[h].detach().numpy(), math.exp(ssm.inv_dt[h].item())
    B, C = (torch.view_as_complex(p.detach())[h].numpy() for p in (ssm.B, ssm.C[0]))
    N = 2 * len(A)
    dense, b, c = np.zeros((N, N)), np.zeros((N, 1)), np.zeros((1, N))
    for n, a in enumerate(A):
        i = slice(2 * n, 2 * n + 2)
        dense[i, i] = [[a.real, -a.imag], [a.imag, a.real]]
        b[i, 0] = B[n].real, B[n].imag
        c[0, i] = 2 * C[n].real, -2 * C[n].imag
    if description.discretization in ("dirac", "exponential_euler"):
        a_bar, b_bar = expm(dt * dense), b * (dt if description.discretization == "exponential_euler" else 1)
    else:
        method = SCIPY.get(description.discretization, description.discretization)
        a_bar, b_bar, *_ = cont2discrete((dense, b, c, np.zeros((1, 1))), dt, method=method)
    taps = []
    for _ in range(length):
        taps.append((c @ b_bar).item())
        b_bar = a_bar @ b_bar
    return np.array(taps)


STABLE = [
    (init, rule)
    for init, rule in itertools.product(INITS, DISCRETIZATIONS)
    if rule != "forward_euler" or init not in ("legt", "lagt", "fout", "rand")  # at no step, or at none of use
]


@pytest.mark.parametrize(("init", "discretization"), STABLE)
def test_kernel_is_that_of_the_dense_real_system(init: str, discretization: str) -> None:
    ssm = layer(init=init, discretization=discretization, **STEPS.get(discretization, {})).double()
    ssm.B.data += 0.3 * noise(*ssm.B.shape, dtype=torch.float64)
    kernel = ssm.kernels(40)[0]
    for h in range(3):
        expected = dense_kernel(ssm, h, 40)
        np.testing.assert_allclose(kernel[:, h].detach().numpy(), expected, atol=1e-10 * np.abs(expected).max())


def test_first_tap_is_c_times_b_bar() -> None:
    ssm = layer(discretization="dirac", skip=False)
    expected = 2 * torch.view_as_complex(ssm.C[0]).sum(dim=-1).real  # B = B_bar = 1
    torch.testing.assert_close(ssm.kernels(5)[0, 0], expected)


def test_skip_adds_d_times_the_input() -> None:
    with_skip, without = layer(), layer(skip=False)
    u = noise(2, 9, 3)
    assert without.D is None
    torch.testing.assert_close(with_skip(u) - without(u), with_skip.D * u, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transform", [t for t in TRANSFORMS if t != "sigmoid"])
@pytest.mark.parametrize("discretization", [d for d in DISCRETIZATIONS if d != "forward_euler"])
@pytest.mark.parametrize("init", ["lin", "real", "legt"])
def test_nothing_overflows_over_16384_steps(init: str, discretization: str, transform: str) -> None:
    if (init, transform) == ("legt", "relu"):
        transform = "none"  # relu has no gradient at 0, where legt starts
    ssm = layer(2, state=64, init=init, discretization=discretization, real_transform=transform, dt_max=1.0)
    kernel = ssm.kernels(16384)[0]
    kernel.square().sum().backward()
    assert torch.isfinite(kernel).all()
    assert all(torch.isfinite(p.grad).all() for name, p in ssm.named_parameters() if name != "D")


@pytest.mark.parametrize("discretization", [d for d in DISCRETIZATIONS if d != "forward_euler"])
@pytest.mark.parametrize("init", INITS)
def test_single_precision_kernel_is_the_double_precision_one_over_16384_steps(init: str, discretization: str) -> None:
    ssm = layer(4, state=64, init=init, discretization=discretization)
    ours = ssm.kernels(16384)[0]
    log_a, b_bar, c = ssm.recurrence()
    truth = vandermonde_direct(c[0].to(torch.complex128) * b_bar, log_a, 16384)
    assert ours.dtype == torch.float32
    assert error(ours, truth) < 2e-6


def test_output_keeps_the_input_dtype_and_full_precision_under_autocast() -> None:
    ssm, u = layer(), noise(2, 300, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full, low = ssm(u), ssm(u.bfloat16())
    torch.testing.assert_close(full, ssm(u), rtol=0, atol=0)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low, ssm(u.bfloat16().float()).bfloat16(), rtol=0, atol=0)
    low.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in ssm.parameters())


def test_arms_that_differ_in_a_start_with_the_same_c_dt_and_d() -> None:
    base = layer().state_dict()
    changes = [{"init": i} for i in INITS] + [{"real_transform": t} for t in TRANSFORMS]
    for fields in [*changes, {"n_ssm": 1}, {"lr_A": 0.0}, {"discretization": "bilinear"}]:
        other = layer(**fields).state_dict()
        for name in ("C", "inv_dt", "D"):
            torch.testing.assert_close(other[name], base[name], rtol=0, atol=0)


def test_same_seed_same_layer_and_another_seed_another() -> None:
    first, again, other = layer(init="rand"), layer(init="rand"), layer(init="rand", seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, other.state_dict()[name]) == (name in {"A_re", "B"})  # -1/2 and 1 for all


def test_each_tensor_is_drawn_from_the_seed_of_its_name() -> None:
    def of(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_for(0, name))

    ssm = layer(init="rand")
    assert torch.equal(ssm.D, torch.randn(3, generator=of("D")))
    C = torch.randn(3, 4, generator=of("C"), dtype=torch.cfloat)
    assert torch.equal(torch.view_as_complex(ssm.C[0]), C)
    low, high = math.log(1e-3), math.log(1e-1)
    torch.testing.assert_close(ssm.inv_dt.data[:, 0], low + (high - low) * torch.rand(3, generator=of("dt")))
    torch.testing.assert_close(ssm.eigenvalues().data.imag, INITS["rand"](3, 8, of("A")).imag)


def test_distributions_at_the_start() -> None:
    ssm = Diagonal(state=64, dt_min=1e-3, dt_max=1e-1).build(512, seed=0)
    assert ssm.C.square().sum(dim=-1).mean().item() == pytest.approx(1, abs=0.03)  # E|C|^2
    assert ssm.D.var().item() == pytest.approx(1, abs=0.2)
    assert ssm.inv_dt.min() >= math.log(1e-3)
    assert ssm.inv_dt.max() <= math.log(1e-1)
    assert ssm.inv_dt.mean().item() == pytest.approx(math.log(1e-2), abs=0.2)
    assert (torch.view_as_complex(ssm.B) == 1).all()


# A logit exists below 1, and relu has no gradient at 0.
STORABLE = [
    (init, transform)
    for init, transform in itertools.product(INITS, TRANSFORMS)
    if not (init == "real" and transform == "sigmoid")
    and not (init in ("legt", "lagt", "fout") and transform == "relu")
]


@pytest.mark.parametrize(("init", "transform"), STORABLE)
def test_eigenvalues_start_at_the_law_whatever_the_transform(init: str, transform: str) -> None:
    ssm = layer(2, init=init, real_transform=transform)
    law = INITS[init](2, 8, torch.Generator().manual_seed(seed_for(0, "A")))
    if transform != "none":  # a decay of 0 cannot be stored
        law = torch.complex(law.real.clamp(max=-1e-4), law.imag)
    torch.testing.assert_close(ssm.eigenvalues().detach(), law, rtol=1e-6, atol=1e-6)


def test_tied_copies_share_their_eigenvalues_between_channels() -> None:
    ssm = layer(4, init="rand", n_ssm=2)
    A = ssm.eigenvalues()
    assert ssm.A_im.shape == (2, 4)
    assert torch.equal(A[0], A[2])
    assert torch.equal(A[1], A[3])
    assert not torch.equal(A[0], A[1])
    assert layer(4, n_ssm=None).A_im.shape == (4, 4)


@pytest.mark.parametrize(("field", "names"), [("lr_A", {"A_re", "A_im"}), ("lr_B", {"B"}), ("lr_dt", {"inv_dt"})])
def test_rate_zero_freezes_into_a_buffer_and_none_leaves_the_rate_to_the_trainer(field: str, names: set[str]) -> None:
    own = {"A_re", "A_im", "B", "inv_dt"}
    frozen = layer(**{field: 0.0})
    assert names <= {name for name, _ in frozen.named_buffers()}
    assert not names & {name for name, _ in frozen.named_parameters()}
    assert frozen.own_rates().keys() == own - names
    free = layer(**{field: None}).own_rates()
    assert free == {name: None if name in names else 1e-3 for name in own}
    assert frozen.state_dict().keys() == layer().state_dict().keys()
    torch.testing.assert_close(frozen(noise(1, 9, 3)), layer()(noise(1, 9, 3)))


def test_parameters_are_real_and_survive_saving() -> None:
    ssm, other = layer(), layer(seed=1)
    assert all(not p.is_complex() for p in [*ssm.parameters(), *layer(lr_A=0, lr_B=0, lr_dt=0).buffers()])
    other.load_state_dict(ssm.state_dict())
    assert torch.equal(ssm(noise(1, 9, 3)), other(noise(1, 9, 3)))


def test_diagonal_keeps_the_promise_of_a_structure() -> None:
    assert isinstance(Diagonal(), Structure)
    assert isinstance(layer(), SSM)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Diagonal().state = 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"init": "linn"}, "Did you mean 'lin'"),
        ({"discretization": "bilinar"}, "Did you mean 'bilinear'"),
        ({"real_transform": "softpluss"}, "Did you mean 'softplus'"),
        ({"state": 7}, "state=7"),
        ({"state": 0}, "state=0"),
        ({"state": 8.0}, "state=8.0"),
        ({"dt_min": 0.0}, "0 < dt_min"),
        ({"dt_max": math.inf}, "dt_max=inf"),
        ({"n_ssm": 0}, "n_ssm=0"),
        ({"lr_A": -1e-3}, "lr_A=-0.001"),
        ({"lr_dt": math.nan}, "lr_dt=nan"),
        ({"skip": 1}, "skip=1"),
    ],
)
def test_mistakes_are_named(fields: dict[str, object], says: str) -> None:
    with pytest.raises(MistakeError) as raised:
        Diagonal(**fields)
    assert says in str(raised.value)


@pytest.mark.parametrize("transform", [t for t in TRANSFORMS if t != "exp"])
def test_a_transform_of_frozen_eigenvalues_is_impossible_because_it_changes_nothing(transform: str) -> None:
    with pytest.raises(ImpossibleError, match="lr_A=0 freezes A"):
        Diagonal(lr_A=0, real_transform=transform)


def test_tying_copies_that_are_equal_and_frozen_is_impossible_because_it_changes_nothing() -> None:
    with pytest.raises(ImpossibleError, match="n_ssm=1"):
        Diagonal(n_ssm=1, lr_A=0, lr_B=0)
    Diagonal(n_ssm=1, lr_A=0, lr_B=0, init="rand")
    Diagonal(n_ssm=1, lr_A=0)


def test_copies_that_do_not_divide_the_width_are_impossible() -> None:
    with pytest.raises(ImpossibleError, match="n_ssm=3 does not divide width=4"):
        Diagonal(n_ssm=3).check(4)
    with pytest.raises(ImpossibleError):
        Diagonal(n_ssm=3).build(4, seed=0)
    Diagonal(n_ssm=2).check(4)


# ------------------------------------------------------------------------------------ the newer fields, one by one


def test_frequencies_can_stay_while_decays_are_trained() -> None:
    ssm = layer(train_imag=False)
    assert {"A_re", "A_im"} & dict(ssm.named_parameters()).keys() == {"A_re"}
    assert torch.equal(ssm(noise(1, 9, 3)), layer()(noise(1, 9, 3)))


def test_scales_multiply_the_law() -> None:
    base, scaled = layer().eigenvalues(), layer(real_scale=2.0, imag_scale=0.01).eigenvalues()
    torch.testing.assert_close(scaled.real, 2 * base.real, rtol=1e-6, atol=0)
    torch.testing.assert_close(scaled.imag, 0.01 * base.imag, rtol=1e-6, atol=1e-9)


def test_random_real_parts_are_uniform_and_random_indices_follow_the_law() -> None:
    A = (
        Diagonal(state=64, real_random=True, imag_random=True, real_transform="none")
        .build(64, 0)
        .eigenvalues()
        .detach()
    )
    assert kstest(-A.real.flatten().numpy(), "uniform").pvalue > 1e-3
    assert kstest(A.imag.flatten().numpy() / (32 * math.pi), "uniform").pvalue > 1e-3  # lin: pi n with n ~ U[0, 32]


@pytest.mark.parametrize("transform", ["exp", "softplus", "relu"])
def test_a_transform_of_im_starts_at_the_law_and_keeps_it_positive(transform: str) -> None:
    ssm = layer(init="inv", imag_transform=transform)
    torch.testing.assert_close(ssm.eigenvalues().imag, layer(init="inv").eigenvalues().imag, rtol=1e-6, atol=0)
    ssm.A_im.data -= 100
    assert (ssm.eigenvalues().imag >= 0).all()


def test_inputs_start_as_they_are_named() -> None:
    def b(name: str, **fields: object) -> np.ndarray:
        return torch.view_as_complex(layer(2, B_init=name, **fields).B.detach())[0].numpy()

    n = np.arange(4)
    np.testing.assert_array_equal(b("ones"), np.ones(4))
    np.testing.assert_array_equal(b("alternating"), [1, -1, 1, -1])
    np.testing.assert_allclose(b("clockwise"), np.exp(-2j * np.pi * n / 4), atol=1e-7)
    np.testing.assert_allclose(b("counterclockwise"), np.exp(2j * np.pi * n / 4), atol=1e-7)
    np.testing.assert_allclose(b("hippo", init="legs"), normal_form("legs", 8).B.numpy(), rtol=1e-6)
    assert abs((np.abs(b("normal", state=4096)) ** 2).mean() - 1) < 0.05
    energy = {name: layer(2, state=4096, C_init=name).C.square().sum(-1).mean().item() for name in C_INITS}
    assert energy == pytest.approx({"normal": 1, "normal_2": 2, "ones": 1}, rel=0.05)


def test_the_hippo_b_of_legs_makes_the_basis_that_hippo_does_near_the_start() -> None:
    # The states themselves, V x + conj, not the diagonal system's: sum over modes of V_0n e^{t lambda_n} B_n.
    form = normal_form("legs", 64)
    t = torch.linspace(0, 0.05, 20, dtype=torch.float64)
    first = 2 * (form.V[0] * form.B * torch.exp(t[:, None] * form.Lambda)).sum(-1).real
    assert first[0].item() == pytest.approx(1, abs=1e-12)  # (e^{0 A} B)_0 = 1


@pytest.mark.parametrize("transform", ["exp", "softplus"])
def test_step_sizes_of_modes_are_drawn_alike_whatever_stores_them(transform: str) -> None:
    ssm = Diagonal(state=64, dt_tied=False, dt_transform=transform).build(64, 0)
    dt = ssm.dt().detach()
    assert dt.shape == (64, 32)
    log = torch.log(dt).flatten().numpy()
    low, high = math.log(1e-3), math.log(1e-1)
    assert kstest((log - low) / (high - low), "uniform").pvalue > 1e-3
    torch.testing.assert_close(dt, Diagonal(state=64, dt_tied=False).build(64, 0).dt().detach(), rtol=1e-5, atol=0)


def test_the_smallest_step_sizes_survive_softplus() -> None:
    ssm = Diagonal(dt_min=1e-6, dt_max=1e-6, dt_transform="softplus").build(4, 0)
    torch.testing.assert_close(ssm.dt(), torch.full((4, 1), 1e-6, dtype=torch.float64), rtol=1e-5, atol=0)
    naive = torch.log(torch.expm1(torch.tensor(1e-6 * 1e-3)))  # in single precision from the start
    assert torch.isfinite(naive)


def test_a_bandlimit_leaves_out_exactly_the_modes_above_it() -> None:
    ssm = layer(dt_min=0.1, dt_max=0.1, bandlimit=0.15)  # pi n dt / pi = n / 10 against 0.15
    _, _, c = ssm.recurrence()
    assert ((c[0] != 0) == torch.tensor([True, True, False, False])).all()


def test_every_second_sample_at_twice_the_rate_gives_every_second_output_and_the_same_steps_do_not() -> None:
    ssm = layer(state=16, discretization="bilinear", dt_min=1e-3, dt_max=5e-3, skip=False).double()
    t = torch.arange(2000, dtype=torch.float64)
    u = torch.stack([torch.sin(t / 90), torch.cos(t / 140), torch.sin(t / 200 + 1)], dim=-1)[None]
    full = ssm(u)[:, ::2]
    unchanged = ssm(u[:, ::2])
    ssm.rate = 2.0
    assert error(ssm(u[:, ::2]), full) < 1e-2
    assert error(unchanged, full) > 0.3


def test_the_reverse_kernel_of_a_bidirectional_layer_is_its_second_c() -> None:
    ssm = layer(bidirectional=True, skip=False).double()
    alone = layer(skip=False).double()
    with torch.no_grad():
        alone.C.copy_(ssm.C[1:])
    u = noise(1, 9, 3, dtype=torch.float64)
    both, forward = ssm.kernels(9)
    torch.testing.assert_close(both, layer(skip=False).double().kernels(9)[0])
    torch.testing.assert_close(forward, alone.kernels(9)[0])
    later = torch.nn.functional.pad(alone(u.flip(1)).flip(1)[:, 1:], (0, 0, 0, 1))
    torch.testing.assert_close(ssm(u) - layer(skip=False).double()(u), later)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"real_transform": "sigmoid", "init": "real"}, "stays below 1, but init='real' starts"),
        ({"real_transform": "sigmoid", "real_scale": 2.0}, "|Re A| at up to 1"),
        ({"imag_transform": "sigmoid"}, "|Im A| at up to"),
        ({"discretization": "forward_euler"}, "unstable for init='lin' at steps above"),
        ({"discretization": "forward_euler", "init": "real", "state": 64}, "above 0.062, but dt_max=0.1"),
        ({"discretization": GBT(0.4), "init": "quad", "state": 64}, "unstable for init='quad'"),
        ({"discretization": "forward_euler", "init": "rand", "dt_max": 1e-3}, "unstable for init='rand'"),
        ({"discretization": "forward_euler", "init": "fout", "dt_max": 1e-3}, "unstable for init='fout'"),
        ({"dt_min": 0.2}, "dt_min <= dt_max"),
        ({"init": "real", "imag_scale": 2.0}, "starts at 0"),
        ({"init": "fout", "real_scale": 2.0}, "starts at 0"),
        ({"init": "legs", "imag_random": True}, "is not a law of the index"),
        ({"init": "lin", "B_init": "hippo"}, "does not come from one"),
        ({"init": "fourier_decay"}, "init='fourier_decay' is not one of"),
        ({"lr_dt": 0.0, "dt_transform": "softplus"}, "lr_dt=0 freezes dt"),
        ({"lr_dt": 0.0, "dt_tied": False, "dt_min": 0.1}, "starts them equal"),
        ({"lr_A": 0.0, "imag_transform": "exp"}, "lr_A=0 freezes A"),
        ({"lr_A": 0.0, "train_imag": False}, "lr_A=0 freezes already"),
        ({"imag_transform": "exp", "train_imag": False}, "train_imag=False freezes it"),
        ({"bandlimit": 2.0}, "leaves out no mode"),
        ({"init": "real", "bandlimit": 0.1}, "leaves out no mode"),
        ({"init": "fout", "real_transform": "relu"}, "would never be trained"),
        ({"init": "real", "imag_transform": "relu"}, "would never be trained"),
    ],
)
def test_impossible_combinations_say_why(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ImpossibleError) as raised:
        Diagonal(**{"state": 8, **fields})
    assert says in str(raised.value)


def test_mixed_laws_need_copies_to_share() -> None:
    Diagonal(init=Mixed(("lin", "inv")), n_ssm=2).check(4)
    with pytest.raises(ImpossibleError, match="that 2 divides, not 1"):
        Diagonal(init=Mixed(("lin", "inv")), n_ssm=1).check(4)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 0),
        ({"init": "real"}, 1),
        ({"init": "real", "lr_A": 0.0}, 0),
        ({"init": "real", "train_imag": False}, 0),
        ({"init": "legs"}, 1),
        ({"init": "legs", "B_init": "hippo"}, 0),
        ({"init": "fout"}, 2),
        ({"init": "fout", "real_transform": "none"}, 2),
        ({"imag_transform": "exp"}, 1),
        ({"init": PTD(), "B_init": "hippo"}, 1),
        ({"bidirectional": True}, 1),
        ({"discretization": GBT(0.4), "dt_max": 1e-3, "state": 4}, 1),
        ({"real_transform": "none"}, 1),
        ({"real_transform": "relu", "discretization": "dirac"}, 2),
    ],
)
def test_caveats_say_what_the_names_do_not(fields: dict[str, object], count: int) -> None:
    caveats = Diagonal(**fields).caveats()
    assert len(caveats) == count
    assert all(sentence.endswith(".") for sentence in caveats)


def test_im_of_the_real_law_can_be_trained_as_its_caveat_says() -> None:
    ssm = layer(init="real")
    ssm(noise(1, 20, 3)).square().sum().backward()
    assert (ssm.A_im == 0).all()
    assert ssm.A_im.grad.abs().max() > 1e-6

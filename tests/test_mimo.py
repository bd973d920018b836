"""The S5 layer: dense oracles, its ways to run agree, resets, its start, its fields."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from jaxtyping import Complex
from lattice import error, in_chunks, step_by_step
from scipy.linalg import block_diag, expm
from scipy.signal import cont2discrete
from torch import Tensor
from torch.func import functional_call, grad, vmap

from descriptions import ImpossibleError, MistakeError, seed_for
from ssm_models.discretize import DISCRETIZATIONS, GBT
from ssm_models.hippo import HIPPO, normal_form
from ssm_models.init import INITS, Mixed, initial_modes
from ssm_models.projections import INPUT_PROJECTIONS, OUTPUT_PROJECTIONS, Basis, basis_of
from ssm_models.structures.mimo import MIMO, MIMOLayer
from ssm_models.structures.structure import SSM, Structure

torch.set_num_threads(1)

TOLERANCE = {torch.float64: (1e-9, 1e-9), torch.float32: (5e-6, 5e-5)}
#: Short steps, at which every rule is stable.
STABLE = {"dt_min": 1e-5, "dt_max": 1e-3}
VARIANTS: dict[str, dict[str, object]] = {
    "default": {},
    "blocks": {"blocks": 2},
    "lin": {"init": "lin"},
    "rand": {"init": "rand"},
    "mixed": {"init": Mixed(("legs", "lin")), "blocks": 2},
    "bidirectional": {"bidirectional": True},
    "no skip": {"skip": False},
    "exp": {"real_transform": "exp"},
    "lecun": {"C_init": "lecun_normal"},
    "normal": {"C_init": "normal", "B_init": "fan_in"},
    "gbt": {"discretization": GBT(0.7)},
    **{rule: {"discretization": rule, **STABLE} for rule in DISCRETIZATIONS},
}


def layer(width: int = 3, seed: int = 0, **fields: object) -> MIMOLayer:
    return MIMO(**{"state": 8, **fields}).build(width, seed)


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# ------------------------------------------------------------------------------------------ the ways to run it


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "bidirectional"])
def test_forward_scan_steps_and_chunks_agree_forward_and_backward(variant: str, dtype: torch.dtype) -> None:
    ssm = layer(**VARIANTS[variant]).to(dtype)
    u, weight = noise(2, 50, 3, dtype=dtype).requires_grad_(), noise(2, 50, 3, dtype=dtype, seed=2)
    results = []
    for run in (lambda u: step_by_step(ssm, u), ssm.scan, ssm, lambda u: in_chunks(ssm, u)):
        y = run(u)
        results.append((y, *torch.autograd.grad((y * weight).sum(), (u, *ssm.parameters()))))
    forward, backward = TOLERANCE[dtype]
    for other in results[1:]:
        assert other[0].dtype == dtype
        assert error(other[0], results[0][0]) < forward
        for gradient, expected in zip(other[1:], results[0][1:], strict=True):
            assert error(gradient, expected) < backward


def test_output_keeps_the_input_dtype_and_full_precision_under_autocast() -> None:
    ssm, u = layer(bidirectional=True), noise(2, 40, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full, low = ssm(u), ssm(u.bfloat16())
    torch.testing.assert_close(full, ssm(u), rtol=0, atol=0)
    assert low.dtype == torch.bfloat16
    low.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in ssm.parameters())


def test_gradients_of_each_sequence_alone_come_from_a_mapped_gradient() -> None:
    ssm, u = layer(bidirectional=True).double(), noise(4, 40, 3)
    parameters = {name: p.detach() for name, p in ssm.named_parameters()}

    def loss(parameters: dict[str, Tensor], u: Tensor) -> Tensor:
        return functional_call(ssm, parameters, (u[None],)).square().sum()

    together = vmap(grad(loss), in_dims=(None, 0))(parameters, u)
    for n in range(4):
        for name, expected in grad(loss)(parameters, u[n]).items():
            torch.testing.assert_close(together[name][n], expected)


def test_a_closed_loop_continues_from_its_own_outputs() -> None:
    ssm, u = layer(skip=False).double(), noise(2, 6, 3)
    y = ssm.forecast(u, 3)
    longer = torch.cat([u, y[:, :2]], dim=1)
    torch.testing.assert_close(ssm(longer)[:, 5:], y)


# ------------------------------------------------------------------------------------------------ dense oracles


def legs_normal(N: int) -> np.ndarray:
    """HiPPO-N: HiPPO-LegS with its rank-one term added back."""
    A = np.zeros((N, N))
    for n in range(N):
        for k in range(N):
            hippo = -math.sqrt((2 * n + 1) * (2 * k + 1)) if n > k else -(n + 1.0) if n == k else 0.0
            A[n, k] = hippo + math.sqrt((n + 0.5) * (k + 0.5))
    return A


def real_coordinates(ssm: MIMOLayer) -> tuple[np.ndarray, ...]:
    """(Dt, B, C) of the real system of size P, in which A is block-diagonal: M diag(z, conj z) M^-1 with M unitary."""
    d = ssm.description
    V = block_diag(*basis_of(d.init, d.blocks, d.block_size).V.numpy())
    inverse = V.conj().T
    B, C = torch.view_as_complex(ssm.B.detach()).numpy(), torch.view_as_complex(ssm.C.detach()).numpy()[0]
    return 2 * (V * ssm.dt().detach().numpy() @ inverse).real, 2 * (V @ B).real, 2 * (C @ inverse).real


def by_loops(a: np.ndarray, b: np.ndarray, c: np.ndarray, D: np.ndarray, u: np.ndarray) -> np.ndarray:
    """y of x_k = a x_{k-1} + b u_k, y_k = c x_k + D u_k."""
    outputs = []
    for sequence in u:
        x = np.zeros(len(a))
        for u_k in sequence:
            x = a @ x + b @ u_k
            outputs.append((c @ x + D * u_k).real)
    return np.array(outputs).reshape(u.shape)


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("rule", ["zoh", "bilinear", "euler", "backward_diff"])
def test_the_layer_is_the_dense_real_hippo_system_with_blocks(rule: str, blocks: int) -> None:
    named = {"euler": "forward_euler", "backward_diff": "backward_euler"}.get(rule, rule)
    ssm = layer(blocks=blocks, discretization=named, **STABLE).double()
    Dt, B, C = real_coordinates(ssm)
    A = block_diag(*[legs_normal(8 // blocks)] * blocks)
    a_bar, b_bar, *_ = cont2discrete((Dt @ A, Dt @ B, C, np.zeros((3, 3))), 1.0, method=rule)
    u = noise(2, 40, 3)
    expected = by_loops(a_bar, b_bar, C, ssm.D.detach().numpy(), u.numpy())
    # HiPPO-N's eigenvalues are stored in single precision.
    np.testing.assert_allclose(ssm(u).detach().numpy(), expected, atol=3e-7 * np.abs(expected).max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_of_the_modes_is_the_full_system_of_conjugate_pairs(variant: str) -> None:
    ssm = layer(**{**VARIANTS[variant], "bidirectional": False}).double()
    d, A, dt = ssm.description, ssm.eigenvalues().detach().numpy(), ssm.dt().detach().numpy()
    z, alpha = dt * A, {"bilinear": 0.5, "forward_euler": 0.0, "backward_euler": 1.0}.get(str(d.discretization), 0.7)
    gain = {
        "zoh": lambda: (np.exp(z) - 1) / A,
        "exponential_euler": lambda: dt,
        "dirac": lambda: np.ones_like(dt),
    }.get(str(d.discretization))
    if gain is not None:
        a_bar, b_bar = np.exp(z), gain()
    else:
        a_bar, b_bar = (1 + (1 - alpha) * z) / (1 - alpha * z), dt / (1 - alpha * z)
    B, C = torch.view_as_complex(ssm.B.detach()).numpy(), torch.view_as_complex(ssm.C.detach()).numpy()[0]
    half = b_bar[:, None] * B
    full = np.diag([*a_bar, *a_bar.conj()]), np.vstack([half, half.conj()]), np.hstack([C, C.conj()])
    u = noise(2, 30, 3)
    expected = by_loops(*full, 0.0 if ssm.D is None else ssm.D.detach().numpy(), u.numpy())
    np.testing.assert_allclose(ssm(u).detach().numpy(), expected, atol=1e-10 * np.abs(expected).max())


def taps(ssm: MIMOLayer, length: int) -> np.ndarray:
    """2 Re C diag(a^l) B for each direction, term by term."""
    a, B, C = (x.detach().numpy() for x in ssm.system())
    return np.array([[(c @ np.diag(a**k) @ B).real for k in range(length)] for c in C])


@pytest.mark.parametrize("both", [False, True])
def test_impulse_response_is_the_powers_of_a_between_b_and_c(both: bool) -> None:
    ssm = layer(bidirectional=both).double()
    K = ssm.impulse_response(20)
    assert K.shape == (1 + both, 20, 3, 3)
    np.testing.assert_allclose(K.detach().numpy(), taps(ssm, 20), atol=1e-12)


@pytest.mark.parametrize("L", [1, 2, 40])
def test_bidirectional_is_a_double_loop_in_which_both_directions_include_the_step_itself(L: int) -> None:
    ssm, u = layer(bidirectional=True).double(), noise(2, L, 3)
    K, expected = taps(ssm, L), u.numpy() * ssm.D.detach().numpy()
    for i in range(L):
        for j in range(L):
            if j <= i:
                expected[:, i] += u[:, j].numpy() @ K[0, i - j].T
            if j >= i:
                expected[:, i] += u[:, j].numpy() @ K[1, j - i].T
    np.testing.assert_allclose(ssm(u).detach().numpy(), expected, atol=1e-10 * np.abs(expected).max())


def test_a_bidirectional_layer_has_no_step() -> None:
    ssm = layer(bidirectional=True)
    for run in (ssm.stepper, lambda: ssm.chunk(noise(1, 3, 3), ssm.initial_state(1))):
        with pytest.raises(ImpossibleError, match="sees the future"):
            run()


# ------------------------------------------------------------------------------------------------------ resets

RESETS = torch.zeros(2, 50, dtype=torch.bool)
RESETS[0, [7, 8, 30]] = True
RESETS[1, [0, 20, 49]] = True


def pieces(row: int) -> list[slice]:
    edges = sorted({0, 50, *RESETS[row].nonzero().flatten().tolist()})
    return [slice(i, j) for i, j in itertools.pairwise(edges)]


@pytest.mark.parametrize("both", [False, True])
def test_resets_are_the_pieces_run_separately(both: bool) -> None:
    ssm, u = layer(bidirectional=both).double(), noise(2, 50, 3)
    y = ssm(u, RESETS)
    for row in range(2):
        for piece in pieces(row):
            torch.testing.assert_close(y[row, piece], ssm(u[row : row + 1, piece])[0])
    assert error(y, ssm(u)) > 1e-3
    torch.testing.assert_close(ssm(u, torch.zeros_like(RESETS)), ssm(u))


@pytest.mark.parametrize("both", [False, True])
def test_no_gradient_crosses_a_reset(both: bool) -> None:
    ssm = layer(bidirectional=both).double()
    for k in (0, 7, 8, 29, 30, 49):
        u = noise(2, 50, 3).requires_grad_()
        (du,) = torch.autograd.grad(ssm(u, RESETS)[0, k].sum(), u)
        inside = next(p for p in pieces(0) if p.start <= k < p.stop)
        reached = du[0].abs().sum(dim=-1).nonzero().flatten().tolist()
        assert reached == list(range(inside.start, inside.stop if both else k + 1))
        assert not du[1].any()


def test_a_reset_in_a_chunk_forgets_the_state_before_it() -> None:
    ssm, u = layer().double(), noise(2, 50, 3)
    state = noise(2, 4) + 1j * noise(2, 4, seed=3)
    y, end = ssm.chunk(u, state, RESETS)
    step = ssm.stepper()
    for k in range(50):
        state = torch.where(RESETS[:, k, None], 0, state)  # what the caller of a stepper does
        value, state = step(u[:, k], state)
        torch.testing.assert_close(y[:, k], value)
    torch.testing.assert_close(end, state)


Element = tuple[np.ndarray, np.ndarray, np.ndarray]


def joined(i: Element, j: Element) -> Element:
    """The operator of Lu et al. 2023, on (a, b, c) with c the flag of a reset before the step."""
    (a_i, b_i, c_i), (a_j, b_j, c_j) = i, j
    return (
        a_j * a_i * (1 - c_j) + a_j * c_j,
        (a_j * b_i + b_j) * (1 - c_j) + b_j * c_j,
        c_i * (1 - c_j) + c_j,
    )


def folded(elements: list[Element]) -> Element:
    """All of them joined, from the middle outwards: the operator is associative."""
    middle = len(elements) // 2
    return elements[0] if middle == 0 else joined(folded(elements[:middle]), folded(elements[middle:]))


def test_resets_are_the_operator_of_the_paper() -> None:
    ssm, u = layer(skip=False).double(), noise(2, 50, 3)
    a, B, C = (x.detach().numpy() for x in ssm.system())
    y = ssm(u, RESETS).detach().numpy()
    for row in range(2):
        elements = [(a, B @ u[row, k].numpy(), np.float64(RESETS[row, k])) for k in range(50)]
        for k in range(50):
            x = folded(elements[: k + 1])[1]
            np.testing.assert_allclose(y[row, k], (C[0] @ x).real, atol=1e-12)


# ------------------------------------------------------------------------------------------------ where it starts


@pytest.mark.parametrize("init", [*INITS, Mixed(("legs", "lin"))])
def test_eigenvalues_start_at_the_law_of_a_block(init: str | Mixed) -> None:
    blocks = 1 if init == "rand" else 2
    A = layer(init=init, blocks=blocks, state=16).eigenvalues().detach()
    law = initial_modes(init, blocks, 16 // blocks, torch.Generator().manual_seed(seed_for(0, "A")))
    torch.testing.assert_close(A, law.flatten(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("init", [*(name for name in HIPPO if name in INITS), "lin", Mixed(("fout", "lin"))])
def test_the_basis_makes_a_real_matrix_of_the_eigenvalues(init: str | Mixed) -> None:
    V, inverse = basis_of(init, 2, 8)
    law = initial_modes(init, 2, 8, torch.Generator())
    M, M_inverse = torch.cat([V, V.conj()], dim=-1), torch.cat([inverse, inverse.conj()], dim=-2)
    torch.testing.assert_close(M @ M_inverse, torch.eye(8, dtype=torch.complex128).expand(2, 8, 8))
    A = M @ torch.diag_embed(torch.cat([law, law.conj()], dim=-1)) @ M_inverse
    assert A.imag.abs().max() < 1e-10 * A.abs().max()
    if init == "legs":
        torch.testing.assert_close(A[0].real, torch.from_numpy(legs_normal(8)))
    if init == "lin":
        angle = math.pi * 3
        torch.testing.assert_close(A[0, 6:, 6:].real, torch.tensor([[-0.5, -angle], [angle, -0.5]]).double())


@pytest.mark.parametrize("init", ["legs", "lin"])
@pytest.mark.parametrize(
    ("field", "level", "variance"),
    [
        ("B_init", "lecun_normal", lambda P, H: 1 / P),
        ("B_init", "fan_in", lambda P, H: 1 / H),
        ("C_init", "trunc_standard_normal", lambda P, H: 2 / P),
        ("C_init", "lecun_normal", lambda P, H: 2 / (P * H)),
        ("C_init", "normal", lambda P, H: 1.0),
    ],
)
def test_projections_start_with_the_variance_their_docstring_says(
    field: str, level: str, variance: Callable[[int, int], float], init: str
) -> None:
    P, H = 64, 96
    ssm = layer(H, state=P, init=init, blocks=4, **{field: level})
    z = torch.view_as_complex(getattr(ssm, field[0]))
    assert z.abs().square().mean().item() == pytest.approx(variance(P, H), rel=0.06)
    assert abs(z.square().mean().item()) < 0.06 * variance(P, H)  # circular: Re and Im are alike and uncorrelated


def test_b_is_a_truncated_normal_in_the_real_coordinates_of_the_blocks() -> None:
    P, H = 64, 96
    _, B, _ = real_coordinates(layer(H, state=P, blocks=4))
    assert B.var() == pytest.approx(1 / P, rel=0.05)
    assert np.abs(B).max() * math.sqrt(P) <= 2 / 0.879 + 1e-4  # two standard deviations before what is left is scaled
    assert np.abs(B).max() * math.sqrt(P) > 2.2


@dataclasses.dataclass(frozen=True)
class FromMatrix:
    """An initialisation with eigenvectors that are not unitary, as those of a perturbed HiPPO matrix."""

    differs_between_copies = False

    def _matrix(self, N: int) -> Tensor:
        return normal_form("legs", N).V @ torch.diag(1 + torch.rand(N // 2, generator=torch.Generator().manual_seed(0)))

    def modes(self, copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
        return normal_form("legs", N).Lambda.repeat(copies, 1)

    def extremes(self, N: int) -> Complex[Tensor, " modes"]:
        return normal_form("legs", N).Lambda

    def check(self, copies: int, N: int) -> None:
        if N == 2:
            raise ImpossibleError("Too small.")

    def basis(self, N: int) -> tuple[Tensor, Tensor]:
        V = normal_form("legs", N).V
        scale = 1 + torch.arange(N // 2)
        return V * scale, V.mH / scale[:, None]


def test_b_and_c_start_in_the_basis_of_an_initialisation_that_has_one() -> None:
    ours, legs = layer(init=FromMatrix(), blocks=2), layer(blocks=2)
    scale = torch.tensor([1, 2, 1, 2])
    B, B_legs, C, C_legs = (torch.view_as_complex(p.detach()) for p in (ours.B, legs.B, ours.C, legs.C))
    torch.testing.assert_close(B, B_legs / scale[:, None])
    torch.testing.assert_close(C, C_legs * scale)
    with pytest.raises(ImpossibleError, match="Too small"):
        layer(init=FromMatrix(), blocks=4)


def test_step_sizes_belong_to_modes_and_are_log_uniform() -> None:
    dt = layer(2, state=2048, init="lin", blocks=32).dt()
    assert dt.shape == (1024,)
    assert 1e-3 <= dt.min() < 1.1e-3
    assert 9e-2 < dt.max() <= 1e-1
    assert dt.log().mean().item() == pytest.approx(math.log(1e-2), abs=0.1)


def test_twice_the_rate_is_twice_every_step_size() -> None:
    ssm, u = layer().double(), noise(1, 12, 3)
    doubled = layer(dt_min=2e-3, dt_max=2e-1).double()
    before = ssm(u)
    ssm.rate = 2.0
    assert error(ssm(u), doubled(u)) < 1e-5
    assert error(ssm(u), before) > 1e-3


def test_arms_that_differ_in_a_start_with_the_same_dt_and_d_and_draws_of_b_and_c() -> None:
    base = layer().state_dict()
    for fields in ({"init": "lin"}, {"blocks": 4}, {"real_transform": "exp"}, {"C_init": "normal"}):
        other = layer(**fields).state_dict()
        for name in ("inv_dt", "D"):
            assert torch.equal(other[name], base[name])
    assert torch.equal(layer(blocks=2).state_dict()["B"], layer(blocks=2, real_transform="exp").state_dict()["B"])
    both = layer(bidirectional=True)
    assert torch.equal(both.C[0], layer().C[0])
    assert not torch.equal(both.C[0], both.C[1])


def test_same_seed_same_layer_and_another_seed_another() -> None:
    first, again, other = layer(init="rand"), layer(init="rand"), layer(init="rand", seed=1)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, other.state_dict()[name]) == (name == "A_re")  # -1/2 for all


@pytest.mark.parametrize("rule", DISCRETIZATIONS)
@pytest.mark.parametrize("init", INITS)
def test_nothing_overflows_over_16384_steps(init: str, rule: str) -> None:
    steps = {"dt_min": 1e-7, "dt_max": 5e-7} if rule == "forward_euler" else {}
    try:
        ssm = layer(2, state=64, init=init, discretization=rule, bidirectional=True, **steps)
    except ImpossibleError:
        assert rule == "forward_euler"
        assert normal_form(init, 64).Lambda.real.max() > -1e-9  # Re A = 0 is unstable at every step
        return
    with torch.no_grad():
        assert torch.isfinite(ssm(noise(1, 16384, 2, dtype=torch.float32))).all()


def test_gradients_are_finite_over_16384_steps() -> None:
    ssm = layer(2, state=64, blocks=4)
    ssm(noise(1, 16384, 2, dtype=torch.float32)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in ssm.parameters())


# ---------------------------------------------------------------------------------------------------- its fields


def test_spectrum_is_that_of_the_system_before_and_after() -> None:
    ssm = layer(blocks=2)
    spectrum = ssm.spectrum()
    assert spectrum.A.shape == spectrum.A_bar.shape == spectrum.dt.shape == (1, 4)
    np.testing.assert_allclose(spectrum.A_bar[0], np.diag(expm(np.diag(spectrum.dt[0] * spectrum.A[0]))))
    assert not spectrum.A_bar.requires_grad


@pytest.mark.parametrize(
    ("field", "names"), [("lr_A", {"A_re", "A_im"}), ("lr_B", {"B"}), ("lr_dt", {"inv_dt"}), ("lr_C", {"C"})]
)
def test_rate_zero_freezes_and_none_leaves_the_rate_to_the_trainer(field: str, names: set[str]) -> None:
    own = {"A_re", "A_im", "B", "inv_dt"}
    frozen, free = layer(**{field: 0.0}), layer(**{field: None})
    assert names == {name for name, _ in frozen.named_buffers()}
    assert frozen.own_rates().keys() == own - names
    assert free.own_rates() == {name: None if name in names else 1e-3 for name in own}
    torch.testing.assert_close(frozen(noise(1, 9, 3).float()), layer()(noise(1, 9, 3).float()))


def test_mimo_keeps_the_promise_of_a_structure() -> None:
    assert isinstance(MIMO(), Structure)
    assert isinstance(layer(), SSM)
    assert all(not p.is_complex() and p.dtype == torch.float32 for p in layer().parameters())
    assert MIMO().build(4, seed=0).B.shape == (128, 4, 2)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"init": "legss"}, "Did you mean 'legs'"),
        ({"B_init": "lecun"}, "Did you mean 'lecun_normal'"),
        ({"C_init": "trunc_normal"}, "Did you mean"),
        ({"state": 7}, "state=7"),
        ({"blocks": 0}, "blocks=0"),
        ({"lr_C": -1.0}, "lr_C=-1"),
        ({"dt_min": 0.0}, "0 < dt_min"),
    ],
)
def test_mistakes_are_named(fields: dict[str, object], says: str) -> None:
    with pytest.raises(MistakeError) as raised:
        MIMO(**fields)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"state": 8, "blocks": 3}, "blocks=3 does not divide state=8"),
        ({"state": 8, "blocks": 8}, "blocks of even size"),
        ({"init": "rand", "blocks": 2}, "the arm would equal the one with blocks=1"),
        ({"lr_A": 0.0, "real_transform": "exp"}, "real_transform='none'"),
        ({"lr_A": 0.0, "imag_transform": "exp"}, "imag_transform='none'"),
        ({"lr_dt": 0.0, "dt_transform": "softplus"}, "lr_dt=0 freezes dt"),
        ({"init": "real", "real_transform": "sigmoid"}, "stays below 1"),
        ({"imag_transform": "sigmoid"}, "starts |Im A|"),
        ({"discretization": "forward_euler"}, "unstable for init='legs'"),
        ({"init": "fout", "discretization": "forward_euler", "dt_max": 1e-3}, "unstable for init='fout'"),
        ({"B_init": "ones"}, "B_init='ones' is not one of"),
        ({"C_init": "normal_2"}, "C_init='normal_2' is not one of"),
    ],
)
def test_what_cannot_be_combined_says_why(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ImpossibleError) as raised:
        MIMO(**fields)
    assert says in str(raised.value)


def test_a_mixed_init_needs_blocks_to_share_out() -> None:
    MIMO(init=Mixed(("legs", "fout")), blocks=2).check(3)
    with pytest.raises(ImpossibleError, match="2 divides"):
        MIMO(init=Mixed(("legs", "fout"))).check(3)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 1),
        ({"real_transform": "exp"}, 0),
        ({"init": "fout", "real_transform": "exp"}, 2),
        ({"real_transform": "relu", "bidirectional": True}, 2),
        ({"init": "real", "real_transform": "exp"}, 1),
        ({"discretization": "dirac", "imag_transform": "exp"}, 3),
    ],
)
def test_caveats_say_what_the_names_do_not(fields: dict[str, object], count: int) -> None:
    caveats = MIMO(**fields).caveats()
    assert len(caveats) == count
    assert all(sentence.endswith(".") for sentence in caveats)


def test_each_level_of_the_projections_draws_differently() -> None:
    basis = Basis(*basis_of("legs", 2, 4))
    for levels in (INPUT_PROJECTIONS, OUTPUT_PROJECTIONS):
        starts = [make(8, 3, basis, torch.Generator().manual_seed(0)) for make in levels.values()]
        for i, one in enumerate(starts):
            assert all(not torch.allclose(one, other) for other in starts[i + 1 :])

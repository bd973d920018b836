"""The sequential recurrence against the sum that solves it, and the associative scan against the sequential one."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from ssm_models.scan import associative, sequential

torch.set_num_threads(1)

LENGTHS = [1, 2, 3, 5, 8, 13, 31, 32, 100, 530]
# How many steps share one transition: the shape of `a` for a batch of 2, a length, and a state of (3, 4).
TRANSITIONS: dict[str, Callable[[int], tuple[int, ...]]] = {
    "all": lambda L: (3, 4),
    "none": lambda L: (2, L, 3, 4),
    "those of the batch": lambda L: (1, L, 3, 4),
    "those of a sequence": lambda L: (2, 1, 3, 4),
    "all, and all channels": lambda L: (4,),
}


def system(
    L: int, shape: tuple[int, ...] = (3, 4), dtype: torch.dtype = torch.complex128
) -> tuple[Tensor, Tensor, Tensor]:
    """(a, bu, initial) with |a| <= 1."""
    g = torch.Generator().manual_seed(0)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    a = torch.rand(shape, generator=g, dtype=torch.float64)
    if dtype.is_complex:
        a = torch.polar(a, 6 * torch.rand(shape, generator=g, dtype=torch.float64))
    bu = torch.randn(2, L, 3, 4, generator=g, dtype=wide)
    initial = torch.randn(2, 3, 4, generator=g, dtype=wide)
    return a.to(dtype), bu.to(dtype), initial.to(dtype)


def error(value: Tensor, truth: Tensor) -> float:
    return ((value - truth).abs().max() / truth.abs().max()).item()


def results(scan: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The states, and the gradients of a weighted sum of them."""
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    states = scan(*inputs)
    weight = torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=torch.complex128)
    loss = (states * weight.to(states.dtype if states.is_complex() else torch.complex128)).real.sum()
    return [states, *torch.autograd.grad(loss, inputs)]


def test_states_are_the_solution_of_the_recurrence() -> None:
    a, bu, initial = system(9)
    states = sequential(a, bu, initial)
    for k in range(9):
        expected = a ** (k + 1) * initial + sum(a ** (k - j) * bu[:, j] for j in range(k + 1))
        torch.testing.assert_close(states[:, k], expected)


def test_a_sequence_in_two_parts_with_the_state_handed_over_is_the_whole() -> None:
    a, bu, initial = system(10)
    first = sequential(a, bu[:, :4], initial)
    second = sequential(a, bu[:, 4:], first[:, -1])
    torch.testing.assert_close(torch.cat([first, second], dim=1), sequential(a, bu, initial), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("same_for", TRANSITIONS)
@pytest.mark.parametrize("L", LENGTHS)
def test_associative_is_sequential_forward_and_backward(L: int, same_for: str, dtype: torch.dtype) -> None:
    inputs = system(L, TRANSITIONS[same_for](L), dtype)
    for value, truth in zip(results(associative, *inputs), results(sequential, *inputs), strict=True):
        assert value.shape == truth.shape
        assert error(value, truth) < 1e-12


@pytest.mark.parametrize("same_for", TRANSITIONS)
@pytest.mark.parametrize("L", LENGTHS)
def test_reverse_runs_from_the_last_step_to_the_first(L: int, same_for: str) -> None:
    def flipped(a: Tensor, bu: Tensor, initial: Tensor) -> Tensor:
        return sequential(a.flip(1) if a.dim() == bu.dim() else a, bu.flip(1), initial).flip(1)

    inputs = system(L, TRANSITIONS[same_for](L))
    backwards = results(lambda *x: associative(*x, reverse=True), *inputs)
    for value, truth in zip(backwards, results(flipped, *inputs), strict=True):
        assert error(value, truth) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_single_precision_is_as_good_as_step_by_step(dtype: torch.dtype) -> None:
    a, bu, initial = system(4000, dtype=dtype)
    a = 0.999 * a / a.abs()
    wide = torch.complex128 if dtype.is_complex else torch.float64
    truth = results(sequential, a.to(wide), bu.to(wide), initial.to(wide))
    ours, steps = results(associative, a, bu, initial), results(sequential, a, bu, initial)
    for value, step, expected in zip(ours, steps, truth, strict=True):
        assert value.dtype == dtype
        assert error(value, expected) < 2 * error(step, expected) + 1e-6


def test_a_real_transition_of_complex_states_has_a_real_gradient() -> None:
    a, bu, initial = system(40)
    inputs = a.abs(), bu, initial
    for value, truth in zip(results(associative, *inputs), results(sequential, *inputs), strict=True):
        assert value.dtype == truth.dtype
        assert error(value, truth) < 1e-12


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(1,), (1, 33, 1)])
def test_first_and_second_derivatives_are_those_of_finite_differences(shape: tuple[int, ...], reverse: bool) -> None:
    g = torch.Generator().manual_seed(0)
    shapes = (shape, (1, 33, 1), (1, 1))
    inputs = [(torch.randn(s, generator=g, dtype=torch.complex128) / 2).requires_grad_() for s in shapes]

    def scan(a: Tensor, bu: Tensor, initial: Tensor) -> Tensor:
        return associative(a, bu, initial, reverse=reverse)

    assert torch.autograd.gradcheck(scan, inputs)
    assert torch.autograd.gradgradcheck(scan, inputs)


@pytest.mark.parametrize("mapped", [(0, 0, 0), (None, 0, None), (0, None, None), (1, 2, 1)])
@pytest.mark.parametrize("per_step", [False, True])
def test_gradients_of_each_element_of_a_mapped_dimension(per_step: bool, mapped: tuple[int | None, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    shapes = [(1, 35, 3) if per_step else (3,), (2, 35, 3), (2, 3)]
    inputs = []
    for shape, dim in zip(shapes, mapped, strict=True):
        full = shape if dim is None else (*shape[:dim], 4, *shape[dim:])
        inputs.append(torch.randn(full, generator=g, dtype=torch.complex128) / 2)

    def loss(a: Tensor, bu: Tensor, initial: Tensor) -> Tensor:
        return associative(a, bu, initial).abs().square().sum()

    derivative = grad(loss, argnums=(0, 1, 2))
    together = vmap(derivative, in_dims=mapped)(*inputs)
    for n in range(4):
        one = [x if dim is None else x.select(dim, n) for x, dim in zip(inputs, mapped, strict=True)]
        for value, truth in zip(together, derivative(*one), strict=True):
            torch.testing.assert_close(value[n], truth)
    outside = grad(lambda a: vmap(loss, in_dims=mapped)(a, *inputs[1:]).sum())(inputs[0])
    expected = together[0].sum(0) if mapped[0] is None else together[0].movedim(0, mapped[0])
    torch.testing.assert_close(outside, expected)


def by_cumulative_products(a: Tensor, bu: Tensor, initial: Tensor) -> Tensor:
    """x_k = P_k (x_{-1} + sum_j bu_j / P_j) with log P the cumulative sum of log a: what `associative` must not do."""
    log_p = torch.cumsum(torch.log(a.expand_as(bu).to(torch.complex128)), dim=1)
    return (torch.exp(log_p) * (initial[:, None] + torch.cumsum(bu * torch.exp(-log_p), dim=1))).to(bu.dtype)


def test_cumulative_products_solve_a_short_recurrence_without_zeros() -> None:
    a, bu, initial = system(10, (2, 10, 3, 4))
    assert error(by_cumulative_products(a, bu, initial), sequential(a, bu, initial)) < 1e-9


@pytest.mark.parametrize("case", ["a zero", "a decay that underflows"])
def test_zeros_and_underflow_are_exact_where_cumulative_products_fail(case: str) -> None:
    a, bu, initial = system(3000, (2, 3000, 3, 4))
    a = a.clone()
    if case == "a zero":
        a /= a.abs()
        a[:, 17::100] = 0
    else:
        a *= 0.5 / a.abs()
    truth = sequential(a, bu, initial)
    assert not torch.isfinite(by_cumulative_products(a, bu, initial)).all()
    for value, expected in zip(results(associative, a, bu, initial), results(sequential, a, bu, initial), strict=True):
        assert torch.isfinite(value).all()
        assert error(value, expected) < 1e-12
    assert error(associative(a, bu, initial), truth) < 1e-12


class CountOperations(TorchDispatchMode):
    """How many multiplications of tensors run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += any(name in str(func) for name in ("mul", "addcmul"))
        return func(*args, **(kwargs or {}))


def operations(L: int) -> int:
    a, bu, initial = (torch.zeros(s) for s in ((1,), (1, L, 1), (1, 1)))
    with CountOperations() as counted:
        associative(a, bu, initial)
    return counted.count


def test_depth_grows_with_the_logarithm_of_the_length() -> None:
    at = {level: operations(16**level) for level in (2, 3, 4)}
    assert at[4] - at[3] == at[3] - at[2] <= 3 * 16
    assert at[4] < 16**4 / 400


def test_what_is_kept_for_the_gradient_is_the_states_alone() -> None:
    a, bu, initial = (x.requires_grad_() for x in system(512))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        states = associative(a, bu, initial)
    assert sum(kept) <= states.numel() + initial.numel() + a.numel()


def test_inputs_are_left_as_they_are() -> None:
    inputs = system(100, (2, 100, 3, 4))
    before = [x.clone() for x in inputs]
    associative(*inputs)
    associative(*inputs, reverse=True)
    for x, expected in zip(inputs, before, strict=True):
        assert torch.equal(x, expected)


def test_no_steps_from_nothing_are_powers() -> None:
    a = torch.tensor([0.9, -0.5], dtype=torch.float64)
    powers = associative(a, torch.zeros(1, 50, 2).double(), torch.ones(1, 2).double())[0]
    expected = [[0.9**k, (-0.5) ** k] for k in range(1, 51)]
    torch.testing.assert_close(powers, torch.tensor(expected, dtype=torch.float64))
    assert math.isclose(powers[-1, 0].item(), 0.9**50)

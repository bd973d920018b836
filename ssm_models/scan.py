"""The recurrence x_k = a_k x_{k-1} + b_k, elementwise: one step after another, and in logarithmic depth.

`a` is the same at all steps, (*S), or one a step, with as many dimensions as bu (B, L, *S). `sequential` is slow and
obvious, and what every fast path is tested against.
"""

from typing import Any

import torch
from jaxtyping import Inexact
from torch import Tensor

State = Inexact[Tensor, "B *S"]
States = Inexact[Tensor, "B L *S"]

# Steps that `associative` joins into one at each of its levels. Every level reads and writes its tensors once more, so
# pairs, which have the most levels, are slowest on a CPU; above 16 little is gained (benchmarks/scan.py).
_BLOCK = 16
# Parts in which the gradient of a constant `a` is summed, so that no product of the size of the states is kept.
_PARTS = 8


def sequential(a: Tensor, bu: States, initial: State) -> States:
    """All states of x_k = a_k x_{k-1} + bu_k with x_{-1} = `initial`."""
    states = []
    x = initial
    for k, b in enumerate(bu.unbind(dim=1)):
        x = (a[:, k if a.shape[1] > 1 else 0] if a.dim() == bu.dim() else a) * x + b
        states.append(x)
    return torch.stack(states, dim=1)


def associative(a: Tensor, bu: States, initial: State, *, reverse: bool = False) -> States:
    """`sequential` in about 2 r log_r(L) steps of whole tensors, r = 16 (Blelloch 1990, with blocks for his pairs).

    r steps in a row are one, x -> (a_r ... a_1) x + b with b their response to x = 0. Each block is reduced to that,
    the L/r blocks are solved as a sequence of their own, and each is run again from the state its left neighbour ends
    in. That is two multiplications a step, at every block size, and a third for the products where a differs between
    steps. Nothing is divided by a product a_r ... a_1, so one that is 0 or underflows is as good as any other.

    With `reverse`, x_k = a_k x_{k+1} + bu_k, and `initial` is the state after the last step.

    The states have the precision of bu and `initial`. An `a` that is the same at all steps may have a higher one, as
    powers of it are taken in double precision: in single they would be wrong by up to as many units as their exponent.
    The gradient is written out: it is the scan in the other direction, so what is kept is the states alone.
    """
    dtype = torch.promote_types(bu.dtype, initial.dtype)
    dtype = dtype.to_complex() if a.is_complex() else dtype
    each = a if a.dim() == bu.dim() else a[None, None]
    each = each.to(torch.promote_types(a.dtype, dtype) if each.shape[1] == 1 else dtype)
    each = each.expand(*each.shape[:2], *bu.shape[2:])
    x: Tensor = _Scan.apply(each, bu.to(dtype), initial.to(dtype), reverse)  # type: ignore[no-untyped-call]
    return x


class _Scan(torch.autograd.Function):
    """`associative` for `a` of shape (1 or B, 1 or L, *S).

        g_k = dL/dx_k + conj(a_{k+1}) g_{k+1},   dL/dbu_k = g_k,   dL/da_k = g_k conj(x_{k-1})

    `backward` is made of differentiable pieces, itself among them, so that it can be differentiated again.
    """

    @staticmethod
    def forward(a: Tensor, bu: Tensor, initial: Tensor, reverse: bool) -> Tensor:
        return _solve(a.to(torch.promote_types(a.dtype, torch.double)) if a.shape[1] == 1 else a, bu, initial, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
        a, _, initial, ctx.reverse = inputs
        ctx.save_for_backward(a, initial, output)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        a, initial, x = ctx.saved_tensors
        conj = a.conj().resolve_conj()
        after = conj if a.shape[1] == 1 else torch.roll(conj, 1 if ctx.reverse else -1, dims=1)
        g: Tensor = _Scan.apply(after, dx, torch.zeros_like(initial), not ctx.reverse)  # type: ignore[no-untyped-call]
        first, later, before = (-1, slice(-1), slice(1, None)) if ctx.reverse else (0, slice(1, None), slice(-1))
        da = None
        if ctx.needs_input_grad[0]:
            da_first = (g[:, first] * initial.conj())[:, None]
            da = _sum_to(a, da_first, g[:, later], x[:, before], ctx.reverse).to(a.dtype)
        return da, g, (conj[:, first] * g[:, first]).to(g.dtype), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], a: Tensor, bu: Tensor, initial: Tensor, reverse: bool
    ) -> tuple[Tensor, int]:
        """The mapped dimension becomes the first of *S: each of its elements is a recurrence of its own."""

        def place(x: Tensor, dim: int | None, at: int) -> Tensor:
            if dim is not None:
                return x.movedim(dim, at)
            return x.unsqueeze(at).expand(*x.shape[:at], info.batch_size, *x.shape[at:])

        inputs = place(a, in_dims[0], 2), place(bu, in_dims[1], 2), place(initial, in_dims[2], 1)
        return _Scan.apply(*inputs, reverse), 2  # type: ignore[no-untyped-call]


def _sum_to(a: Tensor, da_first: Tensor, g: Tensor, x: Tensor, reverse: bool) -> Tensor:
    """The gradient `da_first` of the first step and g conj(x) of the later ones, summed to the shape of `a`."""
    over = [dim for dim in (0, 1) if a.shape[dim] == 1]
    if a.shape[1] > 1:
        terms = torch.cat([g * x.conj(), da_first] if reverse else [da_first, g * x.conj()], dim=1)
        return terms.sum(dim=over, keepdim=True) if over else terms
    total = da_first.sum(dim=over, keepdim=True)
    for g_part, x_part in zip(g.chunk(_PARTS, dim=1), x.chunk(_PARTS, dim=1), strict=True):
        total = total + (g_part * x_part.conj()).sum(dim=over, keepdim=True)
    return total


def _solve(a: Tensor, bu: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    """The states, written into one tensor."""
    length = bu.shape[1]
    blocks = length // _BLOCK if length >= 2 * _BLOCK else 0
    x = torch.empty_like(bu)
    state = initial
    if blocks:
        _solve_blocks(a, bu, initial, reverse, blocks, x)
        state = x[:, length - blocks * _BLOCK if reverse else blocks * _BLOCK - 1]
    for step in range(blocks * _BLOCK, length):  # what is left of the last block
        k = length - 1 - step if reverse else step
        factor = a[:, k if a.shape[1] > 1 else 0].to(bu.dtype)
        state = torch.addcmul(bu[:, k], factor, state, out=x[:, k])
    return x


def _solve_blocks(a: Tensor, bu: Tensor, initial: Tensor, reverse: bool, blocks: int, x: Tensor) -> None:
    """The same for the first `blocks` blocks, in the order of the recurrence."""
    starts = range(bu.shape[1] - 1, bu.shape[1] - 1 - _BLOCK, -1) if reverse else range(_BLOCK)
    span = (blocks - 1) * _BLOCK
    steps = [slice(k - span, k + 1, _BLOCK) if reverse else slice(k, k + span + 1, _BLOCK) for k in starts]
    factors = [a[:, step] if a.shape[1] > 1 else a.to(bu.dtype) for step in steps]
    response = bu[:, steps[0]].clone()
    for factor, step in zip(factors[1:], steps[1:], strict=True):
        torch.addcmul(bu[:, step], factor, response, out=response)
    product = factors[0].clone() if a.shape[1] > 1 else a**_BLOCK
    for factor in factors[1:] if a.shape[1] > 1 else ():
        torch.mul(factor, product, out=product)
    ends = _solve(product, response, initial, reverse)
    first = initial[:, None]
    state = torch.cat([ends[:, 1:], first] if reverse else [first, ends[:, :-1]], dim=1)
    for factor, step in zip(factors[:-1], steps[:-1], strict=True):
        state = torch.addcmul(bu[:, step], factor, state, out=x[:, step])
    x[:, steps[-1]] = ends

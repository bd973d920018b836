"""Kernels, states and scans of systems with a dense real transition, the same at all steps.

    x_k = A x_{k-1} + b u_k,   y_k = c x_k            K_l = c A^l b,  tap 0 the response at the very step of the input

B batch, L length, H channels, N state, S systems that share A and b. With l = iM + j and M ~ sqrt(L) a power of two,

    K_{iM+j} = (c A^{iM}) (A^j b)

is one product of two Krylov sequences of length sqrt(L), and a Krylov sequence doubles in one product,
[V, A^k V] from V of k columns. O(N^3 log L + N^2 sqrt(L) + N L) operations a channel; the sequences
are all that is kept, and no tensor has size H N L.

A may be, and should be, more precise than c, u or x: its powers are taken in the precision of A, and every vector is
multiplied by O(log L) of them in its own. A power A^{2^k} by squaring is wrong by up to 2^k roundings of A, in single
precision by 1e-3 at L = 16384. All run with autocast off.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Bytes of A that one pass works on. On a CPU, matrices that stay in cache make the powers of 256 matrices of 64 x 64
# half as fast again (measured from 0.25 to 8 MB).
_PART_BYTES = 1 << 20
# Steps up to which a sequence of rows doubles.
_BLOCK = 16


def krylov_kernel(
    A: Float[Tensor, "H N N"], b: Float[Tensor, "H N"], c: Float[Tensor, "*S H N"], length: int
) -> Float[Tensor, "*S {length} H"]:
    """K_l = c A^l b for l < length, in the precision of c."""
    stacked = (c.flatten(0, -3) if c.dim() > 2 else c[None]).transpose(0, 1)  # (H, S, N)
    matrix = A.shape[-1] ** 2 * A.dtype.itemsize
    channels = max(1, _PART_BYTES // matrix) if A.device.type == "cpu" else A.shape[0]
    parts = [slice(i, i + channels) for i in range(0, A.shape[0], channels)]
    with torch.autocast(c.device.type, enabled=False):
        taps = torch.cat([_responses(A[i], b[i, :, None], stacked[i], length) for i in parts])  # (H, S, 1, L)
    return taps[:, :, 0].permute(1, 2, 0).reshape(*c.shape[:-2], length, c.shape[-2])


def krylov_kernel_sequential(
    A: Float[Tensor, "H N N"], b: Float[Tensor, "H N"], c: Float[Tensor, "*S H N"], length: int
) -> Float[Tensor, "*S {length} H"]:
    """K_l = c A^l b, one step after another: the reference for `krylov_kernel`."""
    taps, x = [], b
    for _ in range(length):
        taps.append((c * x).sum(dim=-1))
        x = (A @ x[..., None])[..., 0]
    return torch.stack(taps, dim=-2)


def free_response(
    A: Float[Tensor, "H N N"], c: Float[Tensor, "H N"], x: Float[Tensor, "B H N"], length: int
) -> Float[Tensor, "B {length} H"]:
    """c A^{k+1} x for k < length: what the state x before the first step adds to the outputs."""
    with torch.autocast(x.device.type, enabled=False):
        first = A.to(x.dtype) @ x.permute(1, 2, 0)  # (H, N, B): each sequence is an input vector of its own
        return _responses(A, first, c[:, None], length)[:, 0].permute(1, 2, 0)


def driven_state(
    u: Float[Tensor, "B L H"], A: Float[Tensor, "H N N"], b: Float[Tensor, "H N"]
) -> Float[Tensor, "B H N"]:
    """sum_k A^{L-1-k} b u_k, the state that the inputs leave behind, in the precision of u.

    First over j within rows of M steps, then neighbouring rows are joined, log2(L/M) times.
    """
    batch, length, H = u.shape
    M, rows = _factors(length)
    with torch.autocast(u.device.type, enabled=False):
        columns, power = _columns(A, b.to(u.dtype)[..., None], M)  # (H, N, M), A^M
        late = torch.nn.functional.pad(u, (0, 0, rows * M - length, 0))  # zeros in front drive nothing
        x = late.permute(2, 0, 1).reshape(H, batch * rows, M) @ columns.flip(-1).mT
        x = x.view(H, batch, rows, -1)
        while x.shape[2] > 1:
            x = x[:, :, 0::2] @ power.to(x.dtype).mT[:, None] + x[:, :, 1::2]
            power = power @ power if x.shape[2] > 1 else power
        return x[:, :, 0].transpose(0, 1)


def advanced(A: Float[Tensor, "H N N"], x: Float[Tensor, "B H N"], steps: int) -> Float[Tensor, "B H N"]:
    """A^steps x, by the binary digits of the number of steps."""
    with torch.autocast(x.device.type, enabled=False):
        columns = x.permute(1, 2, 0)
        while steps:
            if steps % 2:
                columns = A.to(x.dtype) @ columns
            steps //= 2
            A = A @ A if steps else A
        return columns.permute(2, 0, 1)


def sequential_dense(
    A: Float[Tensor, "H N N"], bu: Float[Tensor, "B L H N"], initial: Float[Tensor, "B H N"]
) -> Float[Tensor, "B L H N"]:
    """All states of x_k = A x_{k-1} + bu_k with x_{-1} = `initial`: the reference for `associative_dense`."""
    states, x = [], initial
    for b in bu.unbind(dim=1):
        x = _apply(A, x[:, None])[:, 0] + b
        states.append(x)
    return torch.stack(states, dim=1)


def associative_dense(
    A: Float[Tensor, "H N N"], bu: Float[Tensor, "B L H N"], initial: Float[Tensor, "B H N"]
) -> Float[Tensor, "B L H N"]:
    """`sequential_dense` in about 2 log2(L) steps of whole tensors (Blelloch 1990), in the precision of bu.

    Two neighbouring steps are one of A^2, with the input A bu_{2k} + bu_{2k+1}. The half as long sequence is
    solved, and the steps between its solutions follow from their left neighbours.
    """
    with torch.autocast(bu.device.type, enabled=False):
        first = _apply(A, initial[:, None]) + bu[:, :1]
        return _solve(A, torch.cat([first, bu[:, 1:]], dim=1))


def _solve(A: Float[Tensor, "H N N"], b: Float[Tensor, "B L H N"]) -> Float[Tensor, "B L H N"]:
    """States from x_{-1} = 0."""
    length = b.shape[1]
    if length == 1:
        return b
    x_odd = _solve(A @ A, _apply(A, b[:, 0 : length - 1 : 2]) + b[:, 1::2])
    x_even = torch.cat([b[:, :1], _apply(A, x_odd[:, : (length - 1) // 2]) + b[:, 2::2]], dim=1)
    x = torch.stack([x_even[:, : length // 2], x_odd], dim=2).flatten(1, 2)
    return x if length % 2 == 0 else torch.cat([x, x_even[:, -1:]], dim=1)


def _apply(A: Float[Tensor, "H N N"], x: Float[Tensor, "B L H N"]) -> Float[Tensor, "B L H N"]:
    return torch.einsum("hij,blhj->blhi", A.to(x.dtype), x)


def _responses(
    A: Float[Tensor, "H N N"], v: Float[Tensor, "H N V"], c: Float[Tensor, "H S N"], length: int
) -> Float[Tensor, "H S V {length}"]:
    """c_s A^l v for every output vector c_s and every input vector v, in the precision of c."""
    H, systems, inputs = c.shape[0], c.shape[1], v.shape[2]
    M, rows = _factors(length)
    right, power = _columns(A, v, M)
    left = _rows(c.to(v.dtype), power, rows)
    taps = (left.to(c.dtype) @ right.to(c.dtype)).view(H, rows, systems, M, inputs)
    return taps.permute(0, 2, 4, 1, 3).reshape(H, systems, inputs, rows * M)[..., :length]


def _columns(
    A: Float[Tensor, "H N N"], v: Float[Tensor, "H N V"], steps: int
) -> tuple[Float[Tensor, "H N {steps}*V"], Float[Tensor, "H N N"]]:
    """[v, A v, ..., A^{steps-1} v] side by side, and A^steps, for a number of steps that is a power of two."""
    for _ in range(int(math.log2(steps))):
        v = torch.cat([v, A.to(v.dtype) @ v], dim=-1)
        A = A @ A
    return v, A


def _rows(c: Float[Tensor, "H S N"], A: Float[Tensor, "H N N"], steps: int) -> Float[Tensor, "H {steps}*S N"]:
    """c, c A, ..., c A^{steps-1} one below the other.

    From `_BLOCK` steps on, A^{_BLOCK} is applied again and again: as many products with rows, and no more squarings.
    """
    for level in range(int(math.log2(min(steps, _BLOCK)))):
        A = A @ A if level else A
        c = torch.cat([c, c @ A.to(c.dtype)], dim=1)
    if steps <= _BLOCK:
        return c
    blocks, A = [c], (A @ A).to(c.dtype)
    for _ in range(steps // _BLOCK - 1):
        blocks.append(blocks[-1] @ A)
    return torch.cat(blocks, dim=1)


def _factors(length: int) -> tuple[int, int]:
    """(M, rows), powers of two with M rows >= length and M ~ rows."""
    levels = math.ceil(math.log2(length))
    return 2 ** ((levels + 1) // 2), 2 ** (levels // 2)

"""Layers of one single-input single-output system a channel whose transition is a dense real matrix."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ssm_models.krylov import advanced, associative_dense, driven_state, free_response, krylov_kernel
from ssm_models.structures.siso import Siso
from ssm_models.structures.structure import Stepper


class DenseRecurrence(NamedTuple):
    """x_k = A x_{k-1} + b u_k,  y_k = c x_k, of each channel, all real.

    A and b in double precision, as a kernel takes powers of A up to L. c has the precision of the parameters; there
    are two, the second for the reverse direction, if bidirectional, else one.
    """

    A: Float[Tensor, "H N N"]
    b: Float[Tensor, "H N"]
    c: Float[Tensor, "S H N"]


class DenseSiso(Siso):
    """A layer whose transition is dense: all ways to run it follow from its `recurrence`."""

    @abstractmethod
    def recurrence(self) -> DenseRecurrence:
        """The discrete system, from the parameters."""

    def kernels(self, length: int) -> Float[Tensor, "S {length} H"]:
        """K_l = c A^l b."""
        return krylov_kernel(*self.recurrence(), length)

    def scan(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """The states of every step, from both ends if bidirectional: N times the memory of `forward`."""
        A, b, c = self.recurrence()
        start = c.new_zeros(u.shape[0], *b.shape)
        drive = b.to(c.dtype)
        outputs = _output(c[0], associative_dense(A, drive * u[..., None], start))
        reverse = None
        if self.bidirectional:
            reverse = _output(c[1], associative_dense(A, drive * u.flip(1)[..., None], start))
        return self.both_ways(outputs, reverse, u)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros (B, H, N)."""
        c = self.recurrence().c
        return c.new_zeros(batch, *c.shape[1:])

    def stepper(self) -> Stepper:
        """x = A x + b u, y = c x + D u."""
        self.require_recurrence()
        A, b, c = self.recurrence()
        A, b = A.to(c.dtype), b.to(c.dtype)

        def step(u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            state = torch.einsum("hij,bhj->bhi", A, state) + b * u[..., None]
            return self.with_skip(_output(c[0], state), u), state

        return step

    def chunk(self, u: Float[Tensor, "B L H"], state: Tensor) -> tuple[Float[Tensor, "B L H"], Tensor]:
        """The response to the inputs plus that to the state, c A^{k+1} x, by Krylov sequences."""
        self.require_recurrence()
        A, b, c = self.recurrence()
        free = free_response(A, c[0], state, u.shape[1])
        left_behind = advanced(A, state, u.shape[1]) + driven_state(u.to(c.dtype), A, b)
        return self.forward(u) + free.to(u.dtype), left_behind


def block_diagonal(z: Complex[Tensor, "*S n"]) -> Float[Tensor, "*S N N"]:
    """Multiplication by z_n as a real matrix on (Re x_0, Im x_0, Re x_1, ...): a block [[Re, -Im], [Im, Re]] a mode."""
    columns = torch.stack([torch.view_as_real(z), torch.view_as_real(1j * z)], dim=-1)  # (*S, n, 2, 2)
    eye = torch.eye(z.shape[-1], dtype=columns.dtype, device=z.device)
    blocks = columns[..., None, :] * eye[:, None, :, None]  # (*S, n, 2, n, 2)
    return blocks.flatten(-4, -3).flatten(-2, -1)


def _output(c: Tensor, states: Tensor) -> Tensor:
    return (c * states).sum(dim=-1)


def far_from_normal(A: Float[Tensor, "R N N"]) -> str:
    """A sentence where the eigenvalues of A mean little, else nothing.

    Rounding A to single precision moves an eigenvalue by up to 6e-8 kappa(V) |A|, with V the eigenvectors.
    """
    condition = torch.linalg.cond(torch.linalg.eig(A).eigenvectors).max().item()
    if condition * 6e-8 < 0.1:
        return ""
    return (
        f"A is far from normal (condition of its eigenvectors {condition:.0e}): rounding its entries moves the "
        "eigenvalues by as much as they are, so they say little of time scales."
    )

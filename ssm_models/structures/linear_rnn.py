"""A linear RNN with a dense transition: the first rung of the ladder to LRU (Orvieto et al. 2023, arXiv:2303.06349).

    x_k = A x_{k-1} + B u_k,   y_k = C x_k + D u_k

    H   channels (the width)    N   real state size      A   (N, N) ~ N(0, 1/N)
    B   (N, H) ~ N(0, 1/H)      D   (H), N(0, 1)         C   (H, N) ~ N(0, 1/N), twice that if bidirectional

In the paper its place is between a nonlinear RNN and `LRU`, which is it in the eigenbasis of A.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from descriptions import check_fields, require, seed_for
from ssm_models.structures.shared_state import Resets, SharedState, System
from ssm_models.structures.step_size import check_rate
from ssm_models.structures.structure import SEES_LATER, Spectrum, draw_skip, generator, names_of_c

# Largest modulus of an initial eigenvalue. That of a Glorot matrix nears 1 from above as N grows: 1.05 to the power of
# a sequence's length overflows.
_RADIUS = 0.999
# Steps that the scan joins into one at each of its levels.
_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class LinearRNN:
    """The description of a linear RNN."""

    state: int = 256
    """N, the real state size."""
    bidirectional: bool = False
    """A second C, for states that run backwards in time with the same A and B."""
    lr_A: float | None = 1e-3
    lr_B: float | None = 1e-3
    """Learning rates of A and B: None is the trainer's, 0 freezes. Never decayed."""
    lr_C: float | None = None
    """The same for C, except that None leaves it among the other weights: the trainer's rate, and decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.state >= 1, f"state={self.state} must be at least 1.")
        for name in ("lr_A", "lr_B", "lr_C"):
            check_rate(name, getattr(self, name))

    def check(self, width: int) -> None:
        """Any width will do."""

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        caveats = [
            (
                self.lr_A != 0,
                "LinearRNN does not bound the eigenvalues of A: training can bring one above 1, and the state then "
                "grows exponentially with length.",
            ),
            (self.bidirectional, SEES_LATER),
        ]
        return [sentence for holds, sentence in caveats if holds]

    def build(self, width: int, seed: int) -> "LinearRNNLayer":
        """The layer."""
        return LinearRNNLayer(self, width, seed)


class LinearRNNLayer(SharedState):
    """The layer that a `LinearRNN` describes."""

    has_step_size = False
    A: Tensor  # parameters, or buffers where the description freezes them
    B: Tensor
    C: Tensor

    def __init__(self, description: LinearRNN, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        self.register_own("A", glorot_within(_RADIUS, d.state, generator(seed_for(seed, "A"))).float(), d.lr_A)
        B = torch.randn(d.state, width, generator=generator(seed_for(seed, "B"))) / math.sqrt(width)
        self.register_own("B", B, d.lr_B)
        C = [
            torch.randn(width, d.state, generator=generator(seed_for(seed, name))) / math.sqrt(d.state)
            for name in names_of_c(d.bidirectional)
        ]
        self.register_weight("C", torch.stack(C), d.lr_C)

    def system(self) -> System:
        """The parameters."""
        return System(self.A.double(), self.B.double(), self.C)

    def spectrum(self) -> Spectrum:
        """The eigenvalues with Im >= 0, shared by all channels."""
        eigenvalues = torch.linalg.eigvals(self.A.detach().double())
        return Spectrum(eigenvalues[eigenvalues.imag >= 0][None])

    def _states(
        self, A: Tensor, bu: Float[Tensor, "B L P"], initial: Float[Tensor, "B P"], resets: Resets | None
    ) -> Float[Tensor, "B L P"]:
        keep = bu.new_ones(1, bu.shape[1], 1) if resets is None else (~resets)[..., None].to(bu.dtype)
        return associative_one_matrix(A, bu, initial, keep)

    def _advance(self, A: Tensor, state: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        return state @ A.T


def glorot_within(radius: float, N: int, generator: torch.Generator) -> Float[Tensor, "N N"]:
    """Entries N(0, 1/N), scaled down as a whole if an eigenvalue would have a modulus above `radius`."""
    A = torch.randn(N, N, generator=generator, dtype=torch.float64) / math.sqrt(N)
    largest = float(torch.linalg.eigvals(A).abs().max())
    return A * min(1.0, radius / largest)


def associative_one_matrix(
    A: Float[Tensor, "N N"], bu: Float[Tensor, "B L N"], initial: Float[Tensor, "B N"], keep: Float[Tensor, "#B L 1"]
) -> Float[Tensor, "B L N"]:
    """x_k = keep_k A x_{k-1} + bu_k, from x_{-1} = `initial`, in about 2 r log_r(L) products of matrices, r = 16.

    The scan of `scan.associative`; r steps in a row are one with A^r and the product of their `keep`, which is 0 or 1.
    Powers of A are taken in its precision, and the products in that of `bu`.
    """

    def step(state: Tensor, b: Tensor, kept: Tensor) -> Tensor:
        return b + kept * (state @ A.T.to(b.dtype))

    with torch.autocast(bu.device.type, enabled=False):
        blocks = bu.shape[1] // _BLOCK if bu.shape[1] >= 2 * _BLOCK else 0
        pieces, state = [], initial
        if blocks:
            b, kept = (_in_blocks(x, blocks) for x in (bu, keep))
            response, product = b[0], kept[0]
            for j in range(1, _BLOCK):
                response, product = step(response, b[j], kept[j]), product * kept[j]
            ends = associative_one_matrix(torch.linalg.matrix_power(A, _BLOCK), response, initial, product)
            states = [torch.cat([initial[:, None], ends[:, :-1]], dim=1)]
            for j in range(_BLOCK - 1):
                states.append(step(states[-1], b[j], kept[j]))
            pieces, state = [torch.stack([*states[1:], ends], dim=2).flatten(1, 2)], ends[:, -1]
        for k in range(blocks * _BLOCK, bu.shape[1]):
            state = step(state, bu[:, k], keep[:, k])
            pieces.append(state[:, None])
        return torch.cat(pieces, dim=1)


def _in_blocks(x: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """Step j of every block, for each j."""
    return x[:, : blocks * _BLOCK].reshape(x.shape[0], blocks, _BLOCK, -1).unbind(2)

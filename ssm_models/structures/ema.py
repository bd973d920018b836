"""EMA: the multidimensional damped exponential moving average of Mega (Ma et al. 2023, arXiv:2209.10655).

    x_k = q x_{k-1} + sigmoid(delta) beta u_k,   y_k = gamma x_k / sqrt(N) + D u_k,
    q = 1 - sigmoid(alpha) sigmoid(delta)

    H             channels (the width)      N     real modes
    alpha, delta  (S, H, N), N(0, 0.2^2)    B     (S, H, N), beta: 1, -1, 1, ... + N(0, 0.02^2)
    C             (S, H, N), gamma: N(0, 1) D     (H), omega: N(0, 1)

S = 2 if bidirectional: each direction has an average of its own, and the later one begins with q at the next step.
It is defined in discrete time. All q start near 3/4, a memory of some four steps. The SiLU that the authors' code
applies to y is the block's activation here.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from descriptions import check_fields, require, seed_for
from ssm_models.structures.siso import DiagonalSiso, Recurrence
from ssm_models.structures.step_size import check_rate
from ssm_models.structures.structure import SEES_LATER, Spectrum, draw_skip, generator


@dataclass(frozen=True, kw_only=True)
class EMA:
    """The description of an EMA layer."""

    state: int = 16
    """N, the number of real modes (in each direction)."""
    bidirectional: bool = False
    """A second average that runs backwards in time."""
    lr_A: float | None = None
    lr_B: float | None = None
    """Learning rates of (alpha, delta) and of beta: None is the trainer's, as in the authors' code, 0 freezes. Never
    decayed, as everywhere here, though the authors' code decays them."""
    lr_C: float | None = None
    """The same for gamma, except that None leaves it among the other weights: the trainer's rate, and decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.state >= 1, f"state={self.state} is the number of real modes; it must be at least 1.")
        for name in ("lr_A", "lr_B", "lr_C"):
            check_rate(name, getattr(self, name))

    def check(self, width: int) -> None:
        """Every width will do."""

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        return [SEES_LATER] if self.bidirectional else []

    def build(self, width: int, seed: int) -> "EMALayer":
        """The layer. Each tensor has its own generator."""
        return EMALayer(self, width, seed)


class EMALayer(DiagonalSiso):
    """The layer that an `EMA` describes."""

    has_step_size = False

    alpha: Tensor  # parameters, or buffers where the description freezes them
    delta: Tensor
    B: Tensor
    C: Tensor

    def __init__(self, description: EMA, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d

        def normal(name: str) -> Float[Tensor, "S H N"]:
            names = (name, f"{name} reverse")[: 1 + d.bidirectional]
            return torch.stack([torch.randn(width, d.state, generator=generator(seed_for(seed, n))) for n in names])

        self.register_own("alpha", 0.2 * normal("A"), d.lr_A)
        self.register_own("delta", 0.2 * normal("delta"), d.lr_A)
        self.register_own("B", 1 - 2 * (torch.arange(d.state) % 2) + 0.02 * normal("B"), d.lr_B)
        self.register_weight("C", normal("C"), d.lr_C)

    def recurrence(self) -> Recurrence:
        """Both averages side by side, 2N modes, if bidirectional: each is read by its own direction only.

        The reverse kernel is that of the authors' code, which leaves out its tap 0.
        """
        gain = torch.sigmoid(self.delta.double())
        log_q = torch.log1p(-torch.sigmoid(self.alpha.double()) * gain)
        b, c = gain * self.B.double(), self.C / math.sqrt(self.description.state)
        if self.bidirectional:
            forward, later = c[0], c[1] * torch.exp(log_q[1]).to(c.dtype)
            none = torch.zeros_like(forward)
            c = torch.stack([torch.cat([forward, none], dim=-1), torch.cat([none, later], dim=-1)])
        log_q, b = (x.transpose(0, 1).flatten(1) for x in (log_q, b))
        return Recurrence(torch.complex(log_q, torch.zeros_like(log_q)), b, c)

    def spectrum(self) -> Spectrum:
        """Q of each channel: N modes, or 2N if bidirectional."""
        return Spectrum(torch.exp(self.recurrence().log_a))

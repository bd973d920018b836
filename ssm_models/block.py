"""One residual block: norm -> SSM -> activation -> dropout -> gate -> dropout -> residual.

    pre-norm    y = x + mix(norm(x))            post-norm    y = norm(x + mix(x))

The SSM mixes positions, the gate mixes channels. B batch, L length, H width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssm_models.structures.structure import SSM


class Norm(NamedTuple):
    """A normalisation of H channels, and where it stands."""

    before: bool
    make: Callable[[int], nn.Module]


class ChannelBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of each channel over batch and length, in our layout."""

    def forward(self, x: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """Every position of every sequence is one sample."""
        return super().forward(x.flatten(0, 1)).view(x.shape)


class TiedDropout(nn.Module):
    """Dropout with one mask for each sequence and channel, the same at every position.

    A mask that changes along the sequence is white noise to a state-space layer, which learns to average it
    out.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """The identity when evaluating, or at p = 0."""
        if not self.training or self.p == 0:
            return x
        return x * nn.functional.dropout(torch.ones_like(x[:, :1]), self.p)


class GLU(nn.Linear):
    """(W x + b) * sigmoid(V x + c), one linear map to 2H whose second half gates the first."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 2 * width)

    def forward(self, x: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """As `nn.GLU` does, but twice as fast on a CPU, whose sigmoid is slow on half rows."""
        value, gate = super().forward(x).chunk(2, dim=-1)
        return value * torch.sigmoid(gate.contiguous())


def linear_gate(width: int) -> nn.Module:
    """W x + b: channels are mixed, nothing is gated."""
    return nn.Linear(width, width)


class Block(nn.Module):
    """A residual block around one state-space layer."""

    def __init__(
        self,
        ssm: SSM,
        gate: nn.Module | None,
        norm: Norm,
        width: int,
        *,
        activation: str,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.ssm = ssm
        self.activation = ACTIVATIONS[activation]()
        self.dropout = TiedDropout(dropout)
        self.gate = gate
        self.norm = norm.make(width)
        self.norm_before, self.residual = norm.before, residual

    def forward(self, x: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """Without a gate there is one dropout, not two in a row."""
        y: Tensor = self.ssm(self.norm(x) if self.norm_before else x)
        y = self.dropout(self.activation(y))
        if self.gate is not None:
            y = self.dropout(self.gate(y))
        if self.residual:
            y = x + y
        if not self.norm_before:
            y = self.norm(y)
        return y


NORMS: dict[str, Norm] = {
    "pre-layer": Norm(before=True, make=nn.LayerNorm),
    "post-layer": Norm(before=False, make=nn.LayerNorm),
    "pre-batch": Norm(before=True, make=ChannelBatchNorm),
    "post-batch": Norm(before=False, make=ChannelBatchNorm),
    "none": Norm(before=False, make=lambda width: nn.Identity()),
}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "none": nn.Identity,
}

GATES: dict[str, Callable[[int], nn.Module | None]] = {
    "glu": GLU,
    "linear": linear_gate,
    "none": lambda width: None,
}

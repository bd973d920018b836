"""How outputs are scored and what is minimised.

A score is a ratio of two sums over the whole split, never a mean of batch means, so it does not depend on the
batch size. The sums stay on the device as float64: a batch costs no synchronisation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from tasks.task import Spec

IGNORED = -100  # the class target that asks for nothing; PyTorch's own convention

Sums = tuple[Float[Tensor, ""], Float[Tensor, ""]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score: add up the `(sum, count)` of all batches, then sum / count."""

    name: str
    higher_is_better: bool
    accumulate: Callable[[Tensor, Tensor], Sums]  # (output, target) of one batch -> its sum and its count


def accuracy_sums(output: Float[Tensor, "*batch classes"], target: Int[Tensor, "*batch"]) -> Sums:
    """Correct answers, and answers asked for. Every asked position counts as one.

    An output that is not a number makes the sum one too: argmax would turn it into a class, and a diverged
    model would score like one that guesses.
    """
    asked = target != IGNORED
    hits = ((output.argmax(dim=-1) == target) & asked).sum().double()
    return hits.masked_fill(output.isnan().any(), torch.nan), asked.sum().double()


def nmse_sums(output: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]) -> Sums:
    """Squared errors, and squared targets: sum (y' - y)^2 / sum y^2. Predicting zero scores exactly 1."""
    assert output.shape == target.shape, f"{tuple(output.shape)} would be broadcast to {tuple(target.shape)}"
    wanted = target.double()
    return (output.double() - wanted).square().sum(), wanted.square().sum()


def cross_entropy(output: Float[Tensor, "*batch classes"], target: Int[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Mean of -log softmax(output)[target] over the targets asked for; nats, in float32 or better."""
    return F.cross_entropy(_full(output).flatten(0, -2), target.flatten(), ignore_index=IGNORED)


def squared_error(output: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean of (y' - y)^2 over every number of the target, in float32 or better."""
    assert output.shape == target.shape, f"{tuple(output.shape)} would be broadcast to {tuple(target.shape)}"
    return F.mse_loss(_full(output), target)


def loss_for(spec: Spec) -> Callable[[Tensor, Tensor], Tensor]:
    """The training loss of a task: (output, target) -> scalar."""
    return cross_entropy if spec.kind == "classification" else squared_error


def _full(output: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Autocast hands over half precision, in which a mean over 10^5 numbers loses its last digits."""
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output


METRICS = {
    "accuracy": Metric(name="accuracy", higher_is_better=True, accumulate=accuracy_sums),
    "nmse": Metric(name="nmse", higher_is_better=False, accumulate=nmse_sums),
}

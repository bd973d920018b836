"""The two ends of a model: what turns inputs into H channels, and what turns H channels into outputs."""

from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor, nn

from descriptions import ImpossibleError


class OneHotLinear(nn.Linear):
    """`nn.Linear` on one-hot vectors, without making them: column `token` of the weight, plus the bias."""

    def forward(self, tokens: Int64[Tensor, "B L"]) -> Float[Tensor, "B L H"]:
        """Weights start as those of a linear map of `in_features` inputs, unlike an embedding's N(0, 1)."""
        y = nn.functional.embedding(tokens, self.weight.T)
        return y + self.bias


def linear_encoder(inputs: int, width: int, tokens: bool) -> nn.Module:
    """W x + b on the channels of a real input, or on the one-hot vector of a token."""
    return OneHotLinear(inputs, width) if tokens else nn.Linear(inputs, width)


def embedding_encoder(inputs: int, width: int, tokens: bool) -> nn.Module:
    """A learned vector for each of `inputs` tokens, N(0, 1) at the start."""
    check_encoder("embedding", tokens=tokens)
    return nn.Embedding(inputs, width)


def check_encoder(name: str, *, tokens: bool) -> None:
    """Raise `ImpossibleError` for an embedding of inputs that are not tokens."""
    if name == "embedding" and not tokens:
        raise ImpossibleError("encoder='embedding' needs tokens, but the inputs of this task are real numbers.")


def linear_decoder(width: int, outputs: int) -> nn.Module:
    """W x + b."""
    return nn.Linear(width, outputs)


def mlp_decoder(width: int, outputs: int) -> nn.Module:
    """One hidden layer of the model's width with a GELU."""
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs))


def mean_pooling(x: Float[Tensor, "B L H"]) -> Float[Tensor, "B H"]:
    """The mean over all positions."""
    return x.mean(dim=1)


def last_pooling(x: Float[Tensor, "B L H"]) -> Float[Tensor, "B H"]:
    """The last position, the only one that has seen the whole sequence."""
    return x[:, -1]


def no_pooling(x: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
    """Every position, for tasks with an output at each."""
    return x


ENCODERS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "linear": linear_encoder,
    "embedding": embedding_encoder,
}

DECODERS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": linear_decoder,
    "mlp": mlp_decoder,
}

POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": mean_pooling,
    "last": last_pooling,
    "none": no_pooling,
}

"""The description of a whole model. Every field, at any depth, can be an axis of a study."""

from dataclasses import dataclass, field, replace

from descriptions import ImpossibleError, check_fields, one_of, require
from ssm_models.block import ACTIVATIONS, GATES, NORMS
from ssm_models.ends import DECODERS, ENCODERS, POOLINGS, check_encoder
from ssm_models.structures import Diagonal, Structure


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """encoder -> depth x block -> (final norm, if the blocks have theirs in front) -> pooling -> decoder."""

    structure: Structure = field(default_factory=Diagonal)
    """The state-space layer of every block."""
    encoder: str = "linear"
    """A name in `ENCODERS`."""
    depth: int = 4
    """Number of blocks."""
    width: int = 128
    """H, the number of channels between encoder and decoder."""
    norm: str = "pre-layer"
    """A name in `NORMS`: which normalisation, and whether before the layer or after the residual sum."""
    activation: str = "gelu"
    """A name in `ACTIVATIONS`: the nonlinearity on the layer's output."""
    gate: str = "glu"
    """A name in `GATES`: how the channels are mixed after the activation."""
    residual: bool = True
    """Whether a block adds to its input, or replaces it."""
    dropout: float = 0.0
    """Probability of zeroing a channel of a sequence, at all positions together."""
    pooling: str = "mean"
    """A name in `POOLINGS`: how positions become one vector. Void if the task has an output at each."""
    decoder: str = "linear"
    """A name in `DECODERS`."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(
            not isinstance(self.structure, type),
            f"structure={self.structure!r} is a class; write it with ().",
        )
        one_of("encoder", self.encoder, ENCODERS)
        one_of("norm", self.norm, NORMS)
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("gate", self.gate, GATES)
        one_of("pooling", self.pooling, POOLINGS)
        one_of("decoder", self.decoder, DECODERS)
        require(self.depth >= 1, f"depth={self.depth} must be at least 1.")
        require(self.width >= 1, f"width={self.width} must be at least 1.")
        require(
            0 <= self.dropout < 1,
            f"dropout={self.dropout:g} is a probability; it must hold that 0 <= dropout < 1.",
        )
        self.structure.check(self.width)


def fit_to(config: ModelConfig, *, tokens: bool, pooled: bool) -> ModelConfig:
    """The model as a task can use it, so that arms which differ in a void field become one arm.

    A task with an output at each position (`pooled=False`) has no pooling, whatever the field says.

    Raises:
        ImpossibleError: the task wants one output a sequence but `pooling='none'`, or has no tokens to embed.

    """
    check_encoder(config.encoder, tokens=tokens)
    if not pooled:
        return replace(config, pooling="none")
    if config.pooling == "none":
        raise ImpossibleError("pooling='none' keeps every position, but this task wants one output for a sequence.")
    return config

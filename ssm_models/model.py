"""From a description to a network, encoder -> blocks -> pooling -> decoder, and its parameters for AdamW."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from descriptions import seed_for
from ssm_models.block import GATES, NORMS, Block
from ssm_models.config import ModelConfig
from ssm_models.ends import DECODERS, ENCODERS, POOLINGS
from ssm_models.structures import SSM


class Model(nn.Module):
    """A network from sequences to one output each, or to one output at each position (`pooling='none'`)."""

    def __init__(
        self,
        encoder: nn.Module,
        blocks: list[Block],
        norm: nn.Module,
        pool: Callable[[Tensor], Tensor],
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self.pool = pool
        self.decoder = decoder

    def forward(
        self, x: Float[Tensor, "B L inputs"] | Int64[Tensor, "B L"]
    ) -> Float[Tensor, "B outputs"] | Float[Tensor, "B L outputs"]:
        """Real inputs or tokens, as the model was built for."""
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.decoder(self.pool(self.norm(x)))
        return y


def build_model(config: ModelConfig, *, inputs: int, tokens: bool, outputs: int, seed: int) -> Model:
    """The network that `config` describes, on the CPU; `inputs` is the vocabulary if `tokens`, else channels.

    Each part draws from a seed of its own name, so parts that two arms share start bit for bit the same, and
    the global generators are left as they were.
    """
    norm = NORMS[config.norm]
    blocks = [
        Block(
            config.structure.build(config.width, seed_for(seed, "block", i)),
            _seeded(seed_for(seed, "gate", i), GATES[config.gate], config.width),
            norm,
            config.width,
            activation=config.activation,
            dropout=config.dropout,
            residual=config.residual,
        )
        for i in range(config.depth)
    ]
    return Model(
        _seeded(seed_for(seed, "encoder"), ENCODERS[config.encoder], inputs, config.width, tokens),
        blocks,
        norm.make(config.width) if norm.before else nn.Identity(),
        POOLINGS[config.pooling],
        _seeded(seed_for(seed, "decoder"), DECODERS[config.decoder], config.width, outputs),
    )


def _seeded(seed: int, make: Callable[..., Any], *arguments: Any) -> Any:
    """`make(*arguments)` with the CPU generator that `nn.Linear` draws from seeded, and restored after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make(*arguments)


def parameter_groups(model: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for AdamW: parameters with a learning rate of their own apart and undecayed, others together.

    As in the S4 authors' training, C, D, norms and biases are among the others: decayed, at the full rate.
    """
    own: dict[float, list[nn.Parameter]] = {}
    for module in model.modules():
        if isinstance(module, SSM):
            for name, rate in module.own_rates().items():
                own.setdefault(lr if rate is None else rate, []).append(module.get_parameter(name))
    apart = {id(p) for parameters in own.values() for p in parameters}
    others = [p for p in model.parameters() if id(p) not in apart]
    groups: list[dict[str, Any]] = [{"params": others, "lr": lr, "weight_decay": weight_decay}]
    return groups + [{"params": own[rate], "lr": rate, "weight_decay": 0.0} for rate in sorted(own)]


def count_parameters(model: nn.Module) -> int:
    """How many real numbers are trained; a complex one counts as two, a frozen one as none."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

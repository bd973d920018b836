"""The residual block against its formula, its normalisations against torch's, and its dropout."""

import pytest
import torch
from torch import Tensor, nn

from descriptions import replace
from ssm_models import Diagonal, ModelConfig, build_model
from ssm_models.block import GATES, NORMS, Block, TiedDropout

SMALL = ModelConfig(structure=Diagonal(state=4), depth=1, width=4)


def build_block(config: ModelConfig) -> Block:
    return build_model(config, inputs=3, tokens=False, outputs=5, seed=0).blocks[0]


def noise() -> Tensor:
    return torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))


def test_a_block_is_what_it_says() -> None:
    x = noise()
    for name, norm in NORMS.items():
        block = build_block(replace(SMALL, "norm", name))
        value, gate = nn.functional.linear(
            nn.functional.gelu(block.ssm(block.norm(x) if norm.before else x)),
            block.gate.weight,
            block.gate.bias,
        ).chunk(2, dim=-1)
        y = x + value * torch.sigmoid(gate)
        torch.testing.assert_close(block(x), y if norm.before else block.norm(y))


@pytest.mark.parametrize("norm", ["pre-batch", "post-batch"])
def test_batch_norm_is_over_batch_and_length(norm: str) -> None:
    layer, x = NORMS[norm].make(4), torch.randn(6, 12, 4) * 3 + 1
    torch.testing.assert_close(layer(x), nn.BatchNorm1d(4)(x.transpose(1, 2)).transpose(1, 2))


def test_dropout_has_one_mask_a_sequence_and_channel_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    y = TiedDropout(0.25)(torch.ones(200, 5, 30))
    assert (y == y[:, :1]).all()
    torch.testing.assert_close(y.unique(), torch.tensor([0, 1 / 0.75]))
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(TiedDropout(0.25).eval()(y), y)


@pytest.mark.parametrize("gate", GATES)
def test_dropout_comes_after_the_activation_and_again_after_the_gate_if_there_is_one(gate: str) -> None:
    block = build_block(replace(replace(SMALL, "dropout", 0.3), "gate", gate))
    x = noise()
    torch.manual_seed(0)
    y = block(x)
    torch.manual_seed(0)
    expected = block.dropout(block.activation(block.ssm(block.norm(x))))
    if block.gate is not None:
        expected = block.dropout(block.gate(expected))
    torch.testing.assert_close(y, x + expected)

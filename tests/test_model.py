"""Whole models: every field matters, equal parts start equal, AdamW gets the groups that the layers ask for."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from descriptions import paths, replace
from ssm_models import (
    SSM,
    Diagonal,
    Model,
    ModelConfig,
    build_model,
    count_parameters,
    parameter_groups,
)
from ssm_models.block import ACTIVATIONS, GATES, NORMS
from ssm_models.ends import DECODERS, ENCODERS, POOLINGS, OneHotLinear

torch.set_num_threads(1)

SMALL = ModelConfig(structure=Diagonal(state=4), depth=2, width=4)


def build(config: ModelConfig = SMALL, seed: int = 0, tokens: bool = False) -> Model:
    return build_model(config, inputs=3, tokens=tokens, outputs=5, seed=seed)


def inputs(tokens: bool = False, L: int = 12) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(3, (6, L), generator=g) if tokens else torch.randn(6, L, 3, generator=g)


LEVELS = [
    *itertools.product(["norm"], NORMS),
    *itertools.product(["activation"], ACTIVATIONS),
    *itertools.product(["gate"], GATES),
    *itertools.product(["pooling"], POOLINGS),
    *itertools.product(["decoder"], DECODERS),
]


@pytest.mark.parametrize(("field", "level"), LEVELS)
def test_every_level_maps_a_batch_to_outputs_with_finite_gradients(field: str, level: str) -> None:
    config = replace(SMALL, field, level)
    model = build(config)
    y = model(inputs())
    assert y.shape == ((6, 12, 5) if config.pooling == "none" else (6, 5))
    y.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_takes_tokens(encoder: str) -> None:
    model = build(replace(SMALL, "encoder", encoder), tokens=True)
    assert model(inputs(tokens=True)).shape == (6, 5)


# One other value for each field, and where needed the model in which both are possible.
CHANGES: dict[str, Any] = {
    "structure": Diagonal(state=6),
    "encoder": "embedding",
    "depth": 3,
    "width": 6,
    "norm": "post-layer",
    "activation": "relu",
    "gate": "linear",
    "residual": False,
    "dropout": 0.3,
    "pooling": "last",
    "decoder": "mlp",
}
BASELINES = {
    "default": SMALL,
    "one block": replace(SMALL, "depth", 1),
    "bare": replace(replace(replace(SMALL, "gate", "none"), "activation", "none"), "norm", "none"),
    "post-batch": replace(SMALL, "norm", "post-batch"),
}


def fingerprint(config: ModelConfig) -> list[tuple[Any, ...]]:
    """What a training step can see: the output, every gradient, and how each parameter is updated."""
    model = build(config, tokens=True)
    rates = {
        id(p): (g["lr"], g["weight_decay"])
        for g in parameter_groups(model, lr=3e-3, weight_decay=0.1)
        for p in g["params"]
    }
    torch.manual_seed(0)
    y = model(inputs(tokens=True))
    y.square().sum().backward()
    seen: list[tuple[Any, ...]] = [(y.detach(),)]
    return seen + [(name, p.grad, rates[id(p)]) for name, p in model.named_parameters()]


def differ(a: list[tuple[Any, ...]], b: list[tuple[Any, ...]]) -> bool:
    """Whether more than rounding tells two fingerprints apart."""
    if len(a) != len(b):
        return True
    for one, other in zip(a, b, strict=True):
        for x, y in zip(one, other, strict=True):
            if not isinstance(x, Tensor):
                if x != y:
                    return True
            elif x.shape != y.shape or (x - y).abs().max() > 1e-3 * x.abs().max():
                return True
    return False


@pytest.mark.parametrize("baseline", BASELINES)
def test_no_field_is_dead(baseline: str) -> None:
    base = BASELINES[baseline]
    outside = {path for path in paths(base) if not path.startswith("structure.")}  # those are in test_modes.py
    assert CHANGES.keys() == outside, "a new field needs a value here"
    before = fingerprint(base)
    assert not differ(before, fingerprint(base))
    for path, value in CHANGES.items():
        assert differ(before, fingerprint(replace(base, path, value))), f"{path} changes nothing"


def test_parts_that_two_arms_share_start_bit_for_bit_equal() -> None:
    base = build().state_dict()
    changes: list[tuple[str, Any]] = [
        ("structure", Diagonal(state=8, init="rand")),
        ("depth", 3),
        ("gate", "linear"),
        ("decoder", "mlp"),
        ("norm", "post-batch"),
    ]
    for path, value in changes:
        other = build(replace(SMALL, path, value)).state_dict()
        parts = ("encoder", "decoder") if path != "decoder" else ("encoder", "blocks")
        for name, tensor in base.items():
            if name.startswith(parts):
                assert torch.equal(other[name], tensor), (path, name)
    gates = [name for name in base if ".gate." in name]
    other = build(replace(SMALL, "structure", Diagonal(state=8, init="rand"))).state_dict()
    assert gates
    assert all(torch.equal(base[name], other[name]) for name in gates)


def test_same_seed_same_model_bit_for_bit_and_blocks_differ() -> None:
    first, again, other = build(), build(), build(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.encoder.weight, other.encoder.weight)
    assert not torch.equal(first.blocks[0].ssm.C, first.blocks[1].ssm.C)
    assert not torch.equal(first.blocks[0].gate.weight, first.blocks[1].gate.weight)


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build()
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    assert torch.equal(build().encoder.weight, build().encoder.weight)


def test_groups_hold_every_parameter_once_and_decay_no_a_b_or_dt() -> None:
    config = replace(replace(SMALL, "structure.lr_B", None), "structure.lr_dt", 5e-4)
    model = build(config)
    groups = parameter_groups(model, lr=1e-2, weight_decay=0.05)
    ids = [id(p) for g in groups for p in g["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    for name, p in model.named_parameters():
        last = name.rsplit(".", 1)[-1]
        expected = {
            "A_re": (1e-3, 0.0),
            "A_im": (1e-3, 0.0),
            "B": (1e-2, 0.0),
            "inv_dt": (5e-4, 0.0),
        }.get(last, (1e-2, 0.05))
        assert found[id(p)] == expected, name
    torch.optim.AdamW(groups)


def test_frozen_parameters_are_in_no_group_and_are_not_counted() -> None:
    frozen = replace(replace(replace(SMALL, "structure.lr_A", 0.0), "structure.lr_B", 0.0), "structure.lr_dt", 0.0)
    assert len(parameter_groups(build(frozen), lr=1e-2, weight_decay=0.0)) == 1
    per_block = 4 * 2 + 4 * 2 + 2 * 4 * 2 + 4  # A_re, A_im, B as two reals, inv_dt
    assert count_parameters(build()) - count_parameters(build(frozen)) == 2 * per_block


def test_count_of_parameters() -> None:
    encoder, norm, glu, decoder = 3 * 4 + 4, 2 * 4, 4 * 8 + 8, 4 * 5 + 5
    ssm = 4 * 2 + 4 * 2 + 2 * 4 * 2 + 4 + 2 * 4 * 2 + 4  # A_re, A_im, B, inv_dt, C, D
    assert count_parameters(build()) == encoder + 2 * (norm + ssm + glu) + norm + decoder


def test_one_hot_linear_is_linear_on_one_hot_vectors() -> None:
    layer, tokens = OneHotLinear(3, 4), inputs(tokens=True)
    one_hot = nn.functional.one_hot(tokens, 3).float()
    torch.testing.assert_close(layer(tokens), nn.functional.linear(one_hot, layer.weight, layer.bias))


def test_pre_norm_adds_a_final_norm_and_post_norm_does_not() -> None:
    for name, norm in NORMS.items():
        assert isinstance(build(replace(SMALL, "norm", name)).norm, nn.Identity) != norm.before


def test_dropout_acts_when_training_only() -> None:
    model = build(replace(SMALL, "dropout", 0.5))
    plain = build()
    assert not torch.equal(model(inputs()), plain(inputs()))
    assert torch.equal(model.eval()(inputs()), plain.eval()(inputs()))


def test_without_batch_norm_a_model_with_an_output_each_step_is_causal() -> None:
    model = build(replace(SMALL, "pooling", "none")).double()
    x = inputs().double()
    later = x.clone()
    later[:, 7:] += 1
    y, changed = model(x), model(later)
    torch.testing.assert_close(y[:, :7], changed[:, :7], rtol=0, atol=1e-12)
    assert (y[:, 7:] - changed[:, 7:]).abs().max() > 1e-2


def test_poolings() -> None:
    every = build(replace(SMALL, "pooling", "none"))(inputs())
    torch.testing.assert_close(build(replace(SMALL, "pooling", "last"))(inputs()), every[:, -1])
    torch.testing.assert_close(build()(inputs()), every.mean(dim=1))  # the decoder is linear


def test_a_model_learns_to_recall_its_first_input() -> None:
    config = ModelConfig(structure=Diagonal(state=8), depth=1, width=8)
    model = build_model(config, inputs=1, tokens=False, outputs=1, seed=0)
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, weight_decay=0.0))
    x = torch.randn(64, 16, 1, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(120):
        loss = (model(x) - x[:, 0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_low_precision_training_keeps_the_state_space_layers_in_full_precision() -> None:
    model, seen = build(), []
    model.blocks[0].ssm.register_forward_hook(lambda module, args, y: seen.append((args[0].dtype, y.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(inputs()).float().square().sum()
    loss.backward()
    assert seen[0][0] == seen[0][1]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_several_models_train_as_one_under_vmap() -> None:
    models = [build(seed=seed) for seed in range(2)]
    stacked, buffers = torch.func.stack_module_state(models)  # type: ignore[arg-type]
    x = inputs()

    def loss(parameters: dict[str, Tensor], fixed: dict[str, Tensor]) -> Tensor:
        y: Tensor = torch.func.functional_call(models[0], (parameters, fixed), (x,))
        return y.square().sum()

    gradient: Callable[..., dict[str, Tensor]] = torch.func.vmap(torch.func.grad(loss))
    fused = gradient(stacked, buffers)
    for i, model in enumerate(models):
        model(x).square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(fused[name][i], parameter.grad, rtol=1e-4, atol=1e-5)


def test_every_layer_registers_its_own_rates() -> None:
    ssms = [m for m in build().modules() if isinstance(m, SSM)]
    assert len(ssms) == SMALL.depth
    for ssm in ssms:
        assert ssm.own_rates().keys() <= dict(ssm.named_parameters()).keys()

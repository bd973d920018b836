"""The description of a model: what it refuses, and how it fits itself to a task."""

import dataclasses
from typing import Any

import pytest

from descriptions import ImpossibleError, MistakeError, replace
from ssm_models import Diagonal, ModelConfig, build_model, fit_to
from ssm_models.ends import POOLINGS

SMALL = ModelConfig(structure=Diagonal(state=4), depth=2, width=4)


def test_fit_to_a_task() -> None:
    for pooling in POOLINGS:
        fitted = fit_to(replace(SMALL, "pooling", pooling), tokens=False, pooled=False)
        assert fitted == replace(SMALL, "pooling", "none")  # arms that differ in a void field become one
    assert fit_to(SMALL, tokens=True, pooled=True) == SMALL
    with pytest.raises(ImpossibleError, match="pooling='none'"):
        fit_to(replace(SMALL, "pooling", "none"), tokens=False, pooled=True)
    embedding = replace(SMALL, "encoder", "embedding")
    assert fit_to(embedding, tokens=True, pooled=True) == embedding
    with pytest.raises(ImpossibleError, match="encoder='embedding'"):
        fit_to(embedding, tokens=False, pooled=True)
    with pytest.raises(ImpossibleError, match="encoder='embedding'"):
        build_model(embedding, inputs=3, tokens=False, outputs=5, seed=0)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"encoder": "liner"}, "Did you mean 'linear'"),
    ({"norm": "prelayer"}, "Did you mean 'pre-layer'"),
    ({"activation": "glu"}, "Did you mean 'gelu'"),
    ({"gate": "gluu"}, "Did you mean 'glu'"),
    ({"pooling": "men"}, "Did you mean 'mean'"),
    ({"decoder": "mpl"}, "Did you mean 'mlp'"),
    ({"depth": 0}, "depth=0"),
    ({"width": -1}, "width=-1"),
    ({"dropout": 1.0}, "dropout=1"),
    ({"depth": "4"}, "depth='4'"),
    ({"structure": Diagonal}, "write it with ()"),
    ({"structure": "diagonal"}, "structure='diagonal'"),
]


@pytest.mark.parametrize(("fields", "says"), MISTAKES)
def test_mistakes_are_named(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(MistakeError) as raised:
        ModelConfig(**fields)
    assert says in str(raised.value)


def test_a_structure_that_does_not_fit_the_width_is_impossible() -> None:
    with pytest.raises(ImpossibleError, match="does not divide width"):
        ModelConfig(structure=Diagonal(n_ssm=3), width=4)


def test_configurations_are_values() -> None:
    assert ModelConfig() == ModelConfig()
    assert hash(ModelConfig()) == hash(ModelConfig())
    assert ModelConfig(dropout=0) == ModelConfig(dropout=0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().depth = 2  # type: ignore[misc]

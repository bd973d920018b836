import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tasks import METRICS, TASKS, Metric, Spec, loss_for


def score(metric: Metric, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    sums = [metric.accumulate(output, target) for output, target in batches]
    return float(sum(s for s, _ in sums) / sum(c for _, c in sums))


def spec(kind: str) -> Spec:
    task = TASKS["copying" if kind == "classification" else "delay"]()
    assert task.spec.kind == kind
    return task.spec


def random_batch(name: str, rows: int, length: int = 5) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(rows)
    if name == "accuracy":
        target = torch.randint(-1, 4, (rows, length), generator=made)
        return torch.randn(rows, length, 4, generator=made), target.masked_fill(target < 0, -100)
    return torch.randn(rows, length, 2, generator=made), torch.randn(rows, length, 2, generator=made)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_a_score_does_not_depend_on_the_batches(metric: Metric) -> None:
    output, target = random_batch(metric.name, 24)
    whole = score(metric, [(output, target)])
    uneven = score(metric, [(output[:1], target[:1]), (output[1:17], target[1:17]), (output[17:], target[17:])])
    assert uneven == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_sums_are_float64_scalars(metric: Metric) -> None:
    for total in metric.accumulate(*random_batch(metric.name, 3)):
        assert total.dtype == torch.float64
        assert total.shape == ()


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_a_model_that_diverged_has_no_score(metric: Metric) -> None:
    output, target = random_batch(metric.name, 8)
    output[3, 2, 0] = torch.nan
    assert math.isnan(score(metric, [(output, target), random_batch(metric.name, 2)]))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_the_better_of_two_outputs_scores_better(metric: Metric) -> None:
    output, target = random_batch(metric.name, 24)
    right = torch.nn.functional.one_hot(target.clamp(min=0), 4).float() if metric.name == "accuracy" else target
    gain = score(metric, [(right, target)]) - score(metric, [(output, target)])
    assert gain > 0 if metric.higher_is_better else gain < 0


def test_the_dictionary_is_keyed_by_the_metrics_own_names() -> None:
    assert all(metric.name == name for name, metric in METRICS.items())


def test_accuracy_counts_every_position_that_is_asked_for() -> None:
    output, target = random_batch("accuracy", 50)
    hits, asked = 0, 0
    for i in range(50):
        for j in range(5):
            if target[i, j] != -100:
                asked += 1
                hits += max(range(4), key=lambda c, i=i, j=j: output[i, j, c]) == target[i, j]
    assert [float(s) for s in METRICS["accuracy"].accumulate(output, target)] == [hits, asked]


def test_accuracy_takes_one_target_a_sequence_too() -> None:
    output = torch.eye(3)
    assert score(METRICS["accuracy"], [(output, torch.tensor([0, 1, 0]))]) == pytest.approx(2 / 3)


def test_predicting_zero_has_a_normalised_error_of_one() -> None:
    _, target = random_batch("nmse", 9)
    assert score(METRICS["nmse"], [(torch.zeros_like(target), target)]) == 1.0
    assert score(METRICS["nmse"], [(target, target)]) == 0.0
    assert score(METRICS["nmse"], [(0.9 * target, target)]) == pytest.approx(0.01, rel=1e-5)


def test_a_target_of_another_shape_is_not_broadcast() -> None:
    with pytest.raises(AssertionError, match="broadcast"):
        METRICS["nmse"].accumulate(torch.zeros(4, 8, 1), torch.zeros(4, 8))
    with pytest.raises(AssertionError, match="broadcast"):
        loss_for(spec("regression"))(torch.zeros(4, 8, 1), torch.zeros(4, 8))


def test_cross_entropy_is_the_mean_over_the_targets_asked_for() -> None:
    output, target = random_batch("accuracy", 6)
    terms = [
        math.log(sum(math.exp(v) for v in output[i, j].tolist())) - float(output[i, j, target[i, j]])
        for i in range(6)
        for j in range(5)
        if target[i, j] != -100
    ]
    loss = loss_for(spec("classification"))
    assert float(loss(output, target)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert float(loss(output[:, 0], target[:, 0].clamp(min=0))) > 0  # (B, C) with (B,)


def test_squared_error_is_the_mean_over_every_number() -> None:
    output, target = random_batch("nmse", 6)
    expected = sum((a - b) ** 2 for a, b in zip(output.flatten().tolist(), target.flatten().tolist(), strict=True))
    assert float(loss_for(spec("regression"))(output, target)) == pytest.approx(expected / target.numel(), rel=1e-5)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_losses_of_half_precision_outputs_are_full_precision_and_differentiable(kind: str) -> None:
    output, target = random_batch("accuracy" if kind == "classification" else "nmse", 6)
    half = output.bfloat16().requires_grad_()
    loss = loss_for(spec(kind))(half, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad is not None
    assert half.grad.abs().sum() > 0

"""The contract of `tasks.task`, kept by every entry of TASKS."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from descriptions import digest
from tasks import METRICS, TASKS, SplitName, Task, loss_for

NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
GENERATED = [name for name in TASKS if hasattr(TASKS[name](), "samples")]

every_task = pytest.mark.parametrize("make", TASKS.values(), ids=TASKS.keys())


def rows(x: Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


@every_task
def test_a_task_keeps_to_the_protocol_and_its_own_name(make: Callable[[], Task]) -> None:
    task = make()
    assert isinstance(task, Task)
    assert TASKS[task.name] is make
    assert task.name == task.name.lower()
    assert digest(task) == digest(make())


@every_task
@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_types_are_those_of_the_spec(make: Callable[[], Task], name: SplitName) -> None:
    spec = make().spec
    x, y = make().split(name, 0)
    n = len(x)
    if spec.tokens:
        assert x.dtype == torch.int64
        assert x.shape == (n, spec.length)
        assert set(x.unique().tolist()) <= set(range(spec.inputs))
    else:
        assert x.dtype == torch.float32
        assert x.shape == (n, spec.length, spec.inputs)
    positions = () if spec.pooled else (spec.length,)
    if spec.kind == "classification":
        assert y.dtype == torch.int64
        assert y.shape == (n, *positions)
        asked = y[y != -100]
        assert set() < set(asked.tolist()) <= set(range(spec.outputs))
    else:
        assert y.dtype == torch.float32
        assert y.shape == (n, *positions, spec.outputs)
        assert y.isfinite().all()


@every_task
def test_a_split_is_the_same_every_time(make: Callable[[], Task]) -> None:
    for name in NAMES:
        first, again = make().split(name, 3, 2), make().split(name, 3, 2)
        assert torch.equal(first.x, again.x)
        assert torch.equal(first.y, again.y)


@every_task
def test_validation_and_test_depend_on_neither_seed_nor_epoch(make: Callable[[], Task]) -> None:
    for name in NAMES[1:]:
        assert torch.equal(make().split(name, 0, 0).x, make().split(name, 7, 5).x)


@every_task
def test_no_sample_is_in_two_splits(make: Callable[[], Task]) -> None:
    test, validation = (rows(make().split(name, 0).x) for name in ("test", "validation"))
    train = set().union(*(rows(make().split("train", seed, epoch).x) for seed in (0, 1) for epoch in (0, 1)))
    assert not test & validation
    assert not train & (test | validation)


@every_task
def test_no_knowledge_scores_the_chance_level(make: Callable[[], Task]) -> None:
    spec = make().spec
    _, y = make().split("test", 0)
    if spec.kind == "classification":
        # The best constant answer, which cannot know more than how often a class occurs.
        asked = y[y != -100]
        answer = torch.nn.functional.one_hot(asked.mode().values, spec.outputs).float()
        output = answer.expand(*y.shape, spec.outputs)
    else:
        output = torch.zeros_like(y)
    total, count = METRICS[spec.metric].accumulate(output, y)
    assert float(total / count) == pytest.approx(spec.chance, rel=0.05)


@every_task
def test_the_loss_of_a_task_takes_its_targets(make: Callable[[], Task]) -> None:
    spec = make().spec
    _, y = make().split("validation", 0)
    shape = (*y.shape, spec.outputs) if spec.kind == "classification" else y.shape
    output = torch.zeros(shape, requires_grad=True)
    loss_for(spec)(output, y).backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0


@pytest.mark.parametrize("name", GENERATED)
def test_seeds_and_epochs_give_new_training_samples(name: str) -> None:
    task = TASKS[name]()
    seen = [task.split("train", seed, epoch).x for seed in (0, 1) for epoch in (0, 1)]
    for i, first in enumerate(seen):
        for other in seen[i + 1 :]:
            assert len(rows(first) & rows(other)) < 0.02 * len(first)  # by chance, where samples are few


@pytest.mark.parametrize("name", GENERATED)
@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_generated_sample_does_not_depend_on_its_batch(name: str, size: int) -> None:
    task = TASKS[name]()
    whole = task.split("train", 5, 1)
    start, n = len(whole.x), 128
    parts = [task.samples("train", 5, start + i, min(size, n - i)) for i in reversed(range(0, n, size))]
    assert torch.equal(torch.cat([part.x for part in reversed(parts)]), whole.x[:n])
    assert torch.equal(torch.cat([part.y for part in reversed(parts)]), whole.y[:n])

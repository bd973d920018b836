import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from conftest import tiny_study

from orchestrator.result import Epoch
from orchestrator.train import Outcome, train
from search_spaces import Axis, Trial, plan
from tasks import Delay, Digits

CPU = torch.device("cpu")


def tiny_trial(*, epochs: int = 4, lr: float = 4e-3, seed: int = 0) -> Trial:
    return plan(tiny_study(epochs=epochs, lr=lr, seeds=(seed,), axes=())).trials[0]


def outcome_of(trial: Trial, checkpoint: Path | None = None, code: str = "") -> Outcome:
    *_, last = train(trial, device=CPU, checkpoint=checkpoint, code=code)
    assert isinstance(last, Outcome)
    return last


def bits(outcome: Outcome) -> tuple[object, ...]:
    """All of an outcome that does not depend on the clock."""
    curve = tuple(dataclasses.replace(point, seconds=0.0) for point in outcome.curve)
    return dataclasses.astuple(dataclasses.replace(outcome, seconds=0.0, curve=curve))


def test_a_trial_yields_each_epoch_and_then_its_outcome():
    *epochs, outcome = train(tiny_trial(), device=CPU)
    assert [e.epoch for e in epochs if isinstance(e, Epoch)] == [1, 2, 3, 4]
    assert isinstance(outcome, Outcome)
    assert outcome.status == "ok"
    assert outcome.curve == tuple(epochs)
    assert outcome.steps == 16  # 64 samples, batches of 16, 4 epochs
    assert outcome.test is not None
    assert 0 <= outcome.test <= 1


def test_a_trial_repeats_bit_for_bit():
    assert bits(outcome_of(tiny_trial())) == bits(outcome_of(tiny_trial()))


def test_another_seed_gives_another_outcome():
    assert bits(outcome_of(tiny_trial(seed=0))) != bits(outcome_of(tiny_trial(seed=1)))


@pytest.mark.parametrize("cut_after", [1, 2, 3, 4])
def test_a_trial_that_is_killed_continues_bit_for_bit(tmp_path, cut_after):
    checkpoint = tmp_path / "checkpoint.pt"
    first = train(tiny_trial(), device=CPU, checkpoint=checkpoint, code="c")
    list(itertools.islice(first, cut_after))
    torch.rand(7)  # what a new process would find in the global generator is of no consequence
    rest = list(train(tiny_trial(), device=CPU, checkpoint=checkpoint, code="c"))
    assert len(rest) == 4 - cut_after + 1  # no epoch is trained twice
    assert isinstance(rest[-1], Outcome)
    assert bits(rest[-1]) == bits(outcome_of(tiny_trial()))


def test_a_checkpoint_of_other_code_or_another_trial_is_not_continued_from(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    next(train(tiny_trial(seed=1), device=CPU, checkpoint=checkpoint, code="old"))
    assert len(list(train(tiny_trial(seed=1), device=CPU, checkpoint=checkpoint, code="new"))) == 5
    assert len(list(train(tiny_trial(seed=0), device=CPU, checkpoint=checkpoint, code="new"))) == 5


@pytest.mark.parametrize("left", [0, 100])
def test_a_checkpoint_that_was_cut_short_is_begun_again(tmp_path, left):
    checkpoint = tmp_path / "checkpoint.pt"
    next(train(tiny_trial(), device=CPU, checkpoint=checkpoint))
    checkpoint.write_bytes(checkpoint.read_bytes()[:left])
    assert bits(outcome_of(tiny_trial(), checkpoint)) == bits(outcome_of(tiny_trial()))


def test_the_best_epoch_on_validation_is_the_one_that_is_tested():
    """A rate so high that training gets worse: the last weights are not the best ones."""
    outcome = outcome_of(tiny_trial(epochs=8, lr=0.5))
    scores = [point.validation for point in outcome.curve]
    assert outcome.validation == max(scores)
    assert outcome.best_epoch == scores.index(max(scores)) + 1
    shorter = tiny_trial(epochs=8, lr=0.5)
    run = list(itertools.islice(train(shorter, device=CPU), outcome.best_epoch))
    assert run[-1].validation == outcome.validation  # type: ignore[union-attr]


def test_the_test_split_is_asked_for_once_and_after_training(monkeypatch):
    asked: list[str] = []
    trial = tiny_trial()
    split = type(trial.task).split

    def spy(self, name, seed, epoch=0):
        asked.append(name)
        return split(self, name, seed, epoch)

    monkeypatch.setattr(type(trial.task), "split", spy)
    outcome_of(trial)
    assert asked.count("test") == 1
    assert asked.count("validation") == 1


def test_a_trial_that_diverges_says_when():
    trial = plan(
        dataclasses.replace(
            tiny_study(axes=(), seeds=(0,)),
            tasks=(Delay(length=64, lag=8, n_train=64, n_validation=32, n_test=32),),
        )
    ).trials[0]
    training = dataclasses.replace(trial.training, lr=1e30, clip=None, warmup=0.0, epochs=3)
    outcome = outcome_of(dataclasses.replace(trial, training=training))
    assert outcome.status == "diverged"
    assert outcome.reason is not None
    assert "not finite" in outcome.reason
    assert "epoch 1" in outcome.reason
    assert outcome.test is None


def test_learning_rates_follow_the_schedule_from_each_groups_own_peak():
    *epochs, _ = train(tiny_trial(lr=0.1), device=CPU)
    training = tiny_trial(lr=0.1).training
    assert [e.lr for e in epochs] == [0.1 * training.rate(step, 16) for step in (3, 7, 11, 15)]  # type: ignore[union-attr]


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    outcome_of(tiny_trial())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_arms_share_their_data_and_order():
    first, second = plan(tiny_study(seeds=(0,))).trials
    assert outcome_of(first).data == outcome_of(second).data
    assert outcome_of(first).data != outcome_of(tiny_trial(seed=1)).data


def test_training_in_bfloat16_ends_near_float32():
    study = tiny_study(axes=(Axis("training.precision", ["float32", "bfloat16"]),), seeds=(0,), epochs=1)
    full, half = (outcome_of(trial) for trial in plan(study).trials)
    assert half.status == "ok"
    assert half.curve[0].train_loss != full.curve[0].train_loss
    assert half.curve[0].train_loss == pytest.approx(full.curve[0].train_loss, rel=0.02)


def test_a_small_model_learns_the_digits():
    trial = plan(dataclasses.replace(tiny_study(axes=(), seeds=(0,), epochs=6), tasks=(Digits(),))).trials[0]
    model = dataclasses.replace(trial.model, width=16, structure=dataclasses.replace(trial.model.structure, state=16))
    outcome = outcome_of(dataclasses.replace(trial, model=model, training=dataclasses.replace(trial.training, lr=1e-2)))
    assert outcome.test is not None
    assert outcome.test > 0.3  # chance is 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_trial_on_a_gpu_ends_near_one_on_the_cpu():
    *_, on_gpu = train(tiny_trial(), device=torch.device("cuda"))
    assert isinstance(on_gpu, Outcome)
    expected = outcome_of(tiny_trial())
    assert on_gpu.curve[0].train_loss == pytest.approx(expected.curve[0].train_loss, rel=1e-3)

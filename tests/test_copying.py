from dataclasses import replace

import numpy as np
import pytest

from descriptions import ImpossibleError, MistakeError
from tasks import Copying, SplitName

SMALL = Copying(blanks=5, memorize=4, alphabet=8, n_train=50, n_validation=20, n_test=30)


def strings(task: Copying, name: SplitName, seed: int = 0, epoch: int = 0) -> list[tuple[int, ...]]:
    return [tuple(row) for row in task.split(name, seed, epoch).x[:, : task.memorize].tolist()]


@pytest.mark.parametrize("task", [SMALL, Copying(), replace(SMALL, blanks=0)], ids=["small", "default", "no blanks"])
def test_the_target_is_read_off_the_input(task: Copying) -> None:
    x, y = task.split("train", 0)
    for given, wanted in zip(x.tolist(), y.tolist(), strict=True):
        data = [token for token in given if 0 < token < task.alphabet - 1]
        assert len(data) == task.memorize
        assert given == data + [0] * task.blanks + [task.alphabet - 1] * task.memorize
        assert wanted == [-100] * (task.memorize + task.blanks) + data


def test_data_tokens_are_equally_frequent_at_every_place() -> None:
    data = np.array(strings(Copying(n_train=40_000), "train"))
    for place in range(6):
        tokens, counts = np.unique(data[:, place], return_counts=True)
        assert tokens.tolist() == list(range(1, 9))
        assert np.abs(counts - 5000).max() < 5 * 5000**0.5


def test_no_string_is_in_two_splits_however_long_training_lasts() -> None:
    held_out = Copying(blanks=0, memorize=3, alphabet=6, n_train=500, n_validation=12, n_test=15)  # 64 strings
    test, validation = set(strings(held_out, "test")), set(strings(held_out, "validation"))
    train = {s for seed in range(3) for epoch in range(3) for s in strings(held_out, "train", seed, epoch)}
    assert not test & validation
    assert train == {(a, b, c) for a in range(1, 5) for b in range(1, 5) for c in range(1, 5)} - test - validation


def test_drawing_again_does_not_depend_on_the_batch() -> None:
    task = Copying(blanks=0, memorize=3, alphabet=6, n_train=200, n_validation=12, n_test=15)
    whole = task.split("train", 0).x
    for i in range(0, 200, 7):
        assert (task.samples("train", 0, i, 1).x == whole[i]).all()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("blanks", -1, "blanks=-1 must not be negative"),
        ("memorize", 0, "memorize=0 must be at least 1"),
        ("alphabet", 3, "alphabet=3 must be at least 4"),
        ("alphabet", "10", "alphabet='10' is a str"),
        ("n_train", 0, "n_train=0 must be at least 1"),
        ("n_test", 0, "n_test=0 must be at least 1"),
    ],
)
def test_a_wrong_value_is_a_mistake(field: str, value: object, sentence: str) -> None:
    with pytest.raises(MistakeError, match=sentence):
        replace(SMALL, **{field: value})


def test_too_few_strings_for_disjoint_splits_are_impossible() -> None:
    with pytest.raises(ImpossibleError, match="make only 36 strings, too few to keep"):
        replace(SMALL, memorize=2)

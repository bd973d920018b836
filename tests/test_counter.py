import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from descriptions import MistakeError, seed_for
from tasks import counter

MASK = 2**64 - 1


def philox(block: int, key: int) -> list[int]:
    """Philox4x64-10 of one counter value, written from the paper (Salmon et al. 2011, section 3.3)."""
    x = [block >> 64 * i & MASK for i in range(4)]
    k0, k1 = key & MASK, key >> 64
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(p1 >> 64) ^ x[1] ^ k0, p1 & MASK, (p0 >> 64) ^ x[3] ^ k1, p0 & MASK]
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & MASK, k1 + 0xBB67AE8584CAA73B & MASK
    return x


def raw(count: int, width: int) -> NDArray[np.uint64]:
    return counter.words("train", 0, "test", 0, count, width)


def test_words_are_philox_of_the_key_and_the_index() -> None:
    key = seed_for(7, "noise", "train")
    for index, row in enumerate(counter.words("train", 7, "noise", 0, 5, 6)):
        # NumPy counts up before it draws; a sample of six words takes two blocks of four.
        expected = philox(2 * index + 1, key) + philox(2 * index + 2, key)
        assert row.tolist() == expected[:6]


@settings(max_examples=50, deadline=None)
@given(start=st.integers(0, 2**70), before=st.integers(0, 9), count=st.integers(1, 9), width=st.integers(1, 9))
def test_a_sample_does_not_depend_on_its_batch(start: int, before: int, count: int, width: int) -> None:
    together = counter.words("train", 0, "s", start, before + count, width)
    apart = counter.words("train", 0, "s", start + before, count, width)
    assert (together[before:] == apart).all()


def test_seed_stream_split_and_index_each_change_the_words() -> None:
    first = counter.words("train", 0, "a", 0, 8, 4)
    others = [
        counter.words("train", 1, "a", 0, 8, 4),
        counter.words("train", 0, "b", 0, 8, 4),
        counter.words("test", 0, "a", 0, 8, 4),
        counter.words("validation", 0, "a", 0, 8, 4),
        counter.words("train", 0, "a", 8, 8, 4),
    ]
    seen = [set(block.ravel().tolist()) for block in [first, *others]]
    assert len(set().union(*seen)) == sum(map(len, seen)) == 6 * 32


def test_only_training_depends_on_the_seed() -> None:
    for name in ("validation", "test"):
        assert (counter.words(name, 0, "a", 0, 3, 4) == counter.words(name, 9, "a", 0, 3, 4)).all()


def test_the_global_generator_is_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002  # the generator under test is the global one
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    counter.normals(raw(4, 8))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    values = counter.uniforms(raw(20_000, 4))
    assert values.min() >= 0
    assert values.max() < 1
    counts, _ = np.histogram(values, bins=16, range=(0, 1))
    assert np.abs(counts - 5000).max() < 5 * 5000**0.5


def test_the_largest_word_is_still_below_one() -> None:
    top = np.array([MASK], dtype=np.uint64)
    assert counter.uniforms(top)[0] < 1
    assert counter.integers(top, 1, 9)[0] == 8
    assert counter.integers(np.array([0], dtype=np.uint64), 1, 9)[0] == 1


def test_integers_are_even_over_their_range() -> None:
    values = counter.integers(raw(20_000, 4), 1, 9)
    tokens, counts = np.unique(values, return_counts=True)
    assert tokens.tolist() == list(range(1, 9))
    assert np.abs(counts - 10_000).max() < 5 * 10_000**0.5


def test_normals_have_the_moments_of_independent_normals() -> None:
    values = counter.normals(raw(50_000, 4))
    error = 1 / 50_000**0.5
    assert np.isfinite(values).all()
    assert np.abs(values.mean(axis=0)).max() < 5 * error
    assert np.abs(np.cov(values.T) - np.eye(4)).max() < 8 * error
    assert abs((values**4).mean() - 3) < 5 * (96 / 200_000) ** 0.5


def test_normals_do_not_depend_on_the_batch_to_the_last_bit() -> None:
    together = counter.normals(raw(67, 102))
    apart = [counter.normals(counter.words("train", 0, "test", i, 1, 102)) for i in range(67)]
    assert (together == np.concatenate(apart)).all()


def test_training_moves_on_every_epoch_and_the_other_splits_stand_still() -> None:
    sizes = {"train": 100, "validation": 7, "test": 9}
    assert counter.span("train", 3, **sizes) == (300, 100)
    assert counter.span("validation", 3, **sizes) == (0, 7)
    assert counter.span("test", 3, **sizes) == (0, 9)


def test_an_unknown_split_is_a_mistake() -> None:
    with pytest.raises(MistakeError, match="Did you mean 'train'"):
        counter.span("trian", 0, train=1, validation=1, test=1)  # type: ignore[arg-type]  # the mistake itself
    with pytest.raises(MistakeError, match="Did you mean 'test'"):
        counter.words("tests", 0, "a", 0, 1, 1)  # type: ignore[arg-type]  # the mistake itself

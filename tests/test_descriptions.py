from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descriptions import (
    MistakeError,
    canonical,
    check_fields,
    digest,
    one_of,
    paths,
    read,
    replace,
    seed_for,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    name: str = "a"
    limit: float | None = None
    flag: bool = False
    count: int = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("field_name", "value", "allowed"),
    [
        ("rate", "0.1", "a float"),
        ("name", 3, "a str"),
        ("limit", "none", "a float | None"),
        ("flag", 1, "a bool"),
        ("count", 1.0, "an int"),
        ("count", True, "an int"),
        ("rate", True, "a float"),
        ("limit", False, "a float | None"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_with_its_value_and_what_is_allowed(field_name, value, allowed):
    with pytest.raises(MistakeError) as caught:
        Inner(**{field_name: value})
    assert f"Inner.{field_name}={value!r}" in str(caught.value)
    assert f"it must be {allowed}." in str(caught.value)


def test_whole_numbers_in_float_fields_become_floats_and_keep_the_digest():
    assert isinstance(Inner(rate=1).rate, float)
    assert isinstance(Inner(limit=2).limit, float)
    assert digest(Inner(rate=1)) == digest(Inner(rate=1.0))


def test_a_wrong_name_lists_the_allowed_ones_and_the_nearest():
    with pytest.raises(
        MistakeError, match=r"x='bilinar' is not one of \['bilinear', 'zoh'\]. Did you mean 'bilinear'\?"
    ):
        one_of("x", "bilinar", ["zoh", "bilinear"])


def test_paths_read_and_replace_reach_nested_fields():
    assert "inner.rate" in paths(Outer())
    changed = replace(Outer(), "inner.rate", 0.5)
    assert read(changed, "inner.rate") == 0.5
    assert read(Outer(), "inner.rate") == 0.1


def test_replacing_checks_the_new_value():
    with pytest.raises(MistakeError, match=r"Inner\.rate='fast'"):
        replace(Outer(), "inner.rate", "fast")


@pytest.mark.parametrize(
    ("path", "nearest"), [("inner.rat", "inner.rate"), ("rate", "inner.rate"), ("seeds.rate", "inner.rate")]
)
def test_a_path_that_does_not_exist_names_the_nearest(path, nearest):
    with pytest.raises(MistakeError, match=f"no field '{path}' in Outer. Did you mean '{nearest}'"):
        read(Outer(), path)


def test_the_canonical_text_has_class_names_and_defaults():
    assert canonical(Outer()) == {
        "class": "tests.Outer" if __name__.startswith("tests.") else "test_descriptions.Outer",
        "inner": {
            "class": canonical(Inner())["class"],
            "rate": 0.1,
            "name": "a",
            "limit": None,
            "flag": False,
            "count": 1,
        },
        "seeds": [0],
    }


values = st.fixed_dictionaries(
    {
        "rate": st.floats(allow_nan=False, allow_infinity=False),
        "name": st.text(),
        "limit": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "flag": st.booleans(),
        "count": st.integers(),
    }
)


@given(values, values)
def test_digests_are_equal_exactly_when_all_fields_are(one, other):
    same = repr(sorted(one.items())) == repr(sorted(other.items()))  # repr tells 0.0 from -0.0
    assert (digest(Inner(**one)) == digest(Inner(**other))) == same


def test_what_has_no_canonical_text_is_refused():
    with pytest.raises(ValueError, match="use None"):
        canonical(Inner(rate=float("inf")))
    with pytest.raises(TypeError, match="cannot stand in a description"):
        canonical(object())


def test_seeds_by_name_are_stable_and_differ():
    assert seed_for(0, "order", 1) == seed_for(0, "order", 1)
    seeds = {seed_for(s, name, e) for s in range(4) for name in ("order", "dropout") for e in range(4)}
    assert len(seeds) == 32
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for(0, "order", 0) == 3955691223199900983  # a change would silently re-seed everybody's studies

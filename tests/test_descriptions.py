from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descriptions import (
    MistakeError,
    canonical,
    check_fields,
    digest,
    exists,
    one_of,
    paths,
    read,
    replace,
    replace_all,
    require,
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


@dataclass(frozen=True, kw_only=True)
class Range:
    low: float = 1.0
    high: float = 2.0

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.low <= self.high, "low is above high.")


@dataclass(frozen=True, kw_only=True)
class Holder:
    inner: Inner | Range = field(default_factory=Range)
    flag: bool = False


@pytest.mark.parametrize("order", [["low", "high"], ["high", "low"]])
@pytest.mark.parametrize(("low", "high"), [(3.0, 4.0), (-2.0, -1.0)], ids=["up", "down"])
def test_fields_of_one_description_are_replaced_together(order, low, high):
    """One after the other, a whole range above or below the present one would pass through an empty range."""
    values = {"low": low, "high": high}
    changed, applied = replace_all(Holder(), {f"inner.{name}": values[name] for name in order})
    assert changed == Holder(inner=Range(low=low, high=high))
    assert applied == {"inner.low", "inner.high"}


def test_a_path_below_a_replaced_description_leads_into_the_new_one():
    changes = {"inner.rate": 0.5, "inner": Inner(name="new"), "flag": True}
    changed, applied = replace_all(Holder(), changes)
    assert changed == Holder(inner=Inner(name="new", rate=0.5), flag=True)
    assert applied == set(changes)


def test_paths_that_do_not_exist_change_nothing_and_are_not_reported_as_applied():
    changed, applied = replace_all(Holder(), {"inner": Inner(), "inner.low": 3.0, "inner.name.x": 1, "no.such": 1})
    assert (changed, applied) == (Holder(inner=Inner()), {"inner"})
    same = Holder()
    assert replace_all(same, {"inner.rate": 0.5}) == (same, set())
    assert replace_all(same, {}) == (same, set())


def test_what_replaces_a_field_is_checked_where_it_will_stand():
    with pytest.raises(MistakeError, match="low is above high"):
        replace_all(Holder(), {"inner.low": 3.0})
    with pytest.raises(MistakeError, match=r"Inner\.rate='fast'"):
        replace_all(Holder(), {"inner": Inner(), "inner.rate": "fast"})


def test_a_class_in_the_place_of_a_description_has_no_fields():
    outer = Holder(inner=Range)  # type: ignore[arg-type]  # an easy slip
    assert not exists(outer, "inner.low")
    assert paths(outer) == ["inner", "flag"]
    assert replace_all(outer, {"inner.low": 0.0}) == (outer, set())


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


@dataclass(frozen=True)
class Listed:
    numbers: tuple[int, ...] = ()
    named: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize("fields", [{"numbers": (0,) * 99 + ("a",)}, {"named": {**dict.fromkeys("abcdefgh", 0), 9: 0}}])
def test_every_item_of_a_tuple_or_dict_is_checked_not_one_at_random(fields: dict[str, Any]) -> None:
    for _ in range(3):
        with pytest.raises(MistakeError):
            Listed(**fields)

"""Checks that a description runs on itself in `__post_init__`."""

import dataclasses
import typing
from collections.abc import Collection
from functools import cache
from typing import Any

from beartype import BeartypeConf
from beartype.door import is_bearable

from descriptions.errors import ImpossibleError, MistakeError, did_you_mean

_TOWER = BeartypeConf(is_pep484_tower=True)  # an int is a good float


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def check_fields(description: Any) -> None:
    """Check the type of every field of a frozen dataclass, and store whole numbers in float fields as floats.

    The second makes `lr=1` and `lr=1.0` one description with one key.

    Raises:
        MistakeError: naming the class, the field, the value and the type that is allowed.

    """
    hints = _hints(type(description))  # type: ignore[arg-type]  # classes are hashable, whatever their instances are
    for field in dataclasses.fields(description):
        value, hint = getattr(description, field.name), hints[field.name]
        accepts = typing.get_args(hint) or (hint,)
        wrong_bool = isinstance(value, bool) and bool not in accepts and (int in accepts or float in accepts)
        if wrong_bool or not _fits(value, hint):
            raise MistakeError(
                f"{type(description).__name__}.{field.name}={value!r} is {_article(type(value).__name__)}; "
                f"it must be {_article(_spell(hint))}."
            )
        if isinstance(value, int) and not isinstance(value, bool) and float in accepts and int not in accepts:
            object.__setattr__(description, field.name, float(value))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a type, and all its items theirs: beartype looks at one of them, which it draws at random."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and inner[1:] == (...,):
        return isinstance(value, tuple) and all(_fits(item, inner[0]) for item in value)
    if typing.get_origin(hint) is dict:
        return isinstance(value, dict) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    return is_bearable(value, hint, conf=_TOWER)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def one_of(field: str, value: str, allowed: Collection[str], *, elsewhere: Collection[str] = ()) -> None:
    """Check a name against those allowed here, and those that other descriptions allow.

    Raises:
        MistakeError: nobody knows the name; with the allowed ones and the nearest.
        ImpossibleError: the name is known elsewhere, so that an axis over several descriptions skips this one.

    """
    if value in allowed:
        return
    sentence = f"{field}={value!r} is not one of {sorted(allowed)}."
    if value in elsewhere:
        raise ImpossibleError(sentence)
    raise MistakeError(sentence + did_you_mean(value, {*allowed, *elsewhere}))


def require(holds: bool, sentence: str) -> None:
    """Raise `MistakeError(sentence)` unless `holds`."""
    if not holds:
        raise MistakeError(sentence)

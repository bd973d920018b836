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
        if wrong_bool or not is_bearable(value, hint, conf=_TOWER):
            raise MistakeError(
                f"{type(description).__name__}.{field.name}={value!r} is {_article(type(value).__name__)}; "
                f"it must be {_article(_spell(hint))}."
            )
        if isinstance(value, int) and not isinstance(value, bool) and float in accepts and int not in accepts:
            object.__setattr__(description, field.name, float(value))


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

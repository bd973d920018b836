"""Fields of nested descriptions by dotted path: `model.structure.init`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from descriptions.errors import MistakeError, did_you_mean

D = TypeVar("D")

_NOTHING = object()


def paths(description: Any) -> list[str]:
    """Every path that exists in a description, parents before children."""
    found: list[str] = []
    for field in dataclasses.fields(description):
        found.append(field.name)
        value = getattr(description, field.name)
        if _is_description(value):
            found += [f"{field.name}.{path}" for path in paths(value)]
    return found


def exists(description: Any, path: str) -> bool:
    """Whether there is a field at a path."""
    return _find(description, path) is not _NOTHING


def read(description: Any, path: str) -> Any:
    """The value at a path. Raises `MistakeError` with the nearest path when there is no such field."""
    value = _find(description, path)
    if value is _NOTHING:
        raise MistakeError(f"There is no field {path!r} in {type(description).__name__}.{_nearest(path, description)}")
    return value


def _find(description: Any, path: str) -> Any:
    value = description
    for name in path.split("."):
        if not _is_description(value) or all(field.name != name for field in dataclasses.fields(value)):
            return _NOTHING
        value = getattr(value, name)
    return value


def _is_description(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def replace(description: D, path: str, value: Any) -> D:
    """A copy with the field at `path` set to `value`; every description on the way checks itself again."""
    read(description, path)  # so that a wrong path is one clear error, whatever its depth
    return replace_all(description, {path: value})[0]


def replace_all(description: D, changes: Mapping[str, Any]) -> tuple[D, set[str]]:
    """A copy with every path set to its value, and the paths that exist there; the others change nothing.

    The fields of one description are set together, so that it checks the values as they will stand and never a
    combination that is only passed through. A path below a field that is itself set leads into its new value.
    """
    own = {field.name for field in dataclasses.fields(description)}  # type: ignore[arg-type]  # D is a dataclass
    values = {path: value for path, value in changes.items() if path in own}
    applied = set(values)
    below: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        head, dot, rest = path.partition(".")
        if dot and head in own:
            below.setdefault(head, {})[rest] = value
    for head, inner in below.items():
        outer = values.get(head, getattr(description, head))
        if _is_description(outer):
            values[head], found = replace_all(outer, inner)
            applied |= {f"{head}.{rest}" for rest in found}
    copy = dataclasses.replace(description, **values) if applied else description  # type: ignore[type-var]
    return copy, applied


def _nearest(path: str, description: Any) -> str:
    """Prefer a field of the same last name (`init` for `model.init`), else the path that is spelt most alike."""
    known = paths(description)
    same_name = [p for p in known if p.rsplit(".", 1)[-1] == path.rsplit(".", 1)[-1]]
    return f" Did you mean {same_name[0]!r}?" if same_name else did_you_mean(path, known)

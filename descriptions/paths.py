"""Fields of nested descriptions by dotted path: `model.structure.init`."""

import dataclasses
from typing import Any, TypeVar

from descriptions.errors import MistakeError, did_you_mean

D = TypeVar("D")


def paths(description: Any) -> list[str]:
    """Every path that exists in a description, parents before children."""
    found: list[str] = []
    for field in dataclasses.fields(description):
        found.append(field.name)
        value = getattr(description, field.name)
        if dataclasses.is_dataclass(value):
            found += [f"{field.name}.{path}" for path in paths(value)]
    return found


def read(description: Any, path: str) -> Any:
    """The value at a path. Raises `MistakeError` with the nearest path when there is no such field."""
    value = description
    for name in path.split("."):
        if not dataclasses.is_dataclass(value) or name not in {f.name for f in dataclasses.fields(value)}:
            raise MistakeError(
                f"There is no field {path!r} in {type(description).__name__}.{_nearest(path, description)}"
            )
        value = getattr(value, name)
    return value


def replace(description: D, path: str, value: Any) -> D:
    """A copy with the field at `path` set to `value`; every description on the way checks itself again."""
    read(description, path)  # so that a wrong path is one clear error, whatever its depth
    head, _, rest = path.partition(".")
    inner = replace(getattr(description, head), rest, value) if rest else value
    return dataclasses.replace(description, **{head: inner})  # type: ignore[type-var]  # D is a dataclass by read()


def _nearest(path: str, description: Any) -> str:
    """Prefer a field of the same last name (`init` for `model.init`), else the path that is spelt most alike."""
    known = paths(description)
    same_name = [p for p in known if p.rsplit(".", 1)[-1] == path.rsplit(".", 1)[-1]]
    return f" Did you mean {same_name[0]!r}?" if same_name else did_you_mean(path, known)

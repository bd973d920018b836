"""The run-time checker of annotated shapes: `pytest --jaxtyping-packages=ssm_models,shapes.check`."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a good float


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype on every function but `__init__`: descriptions check their own fields, and say more."""
    return function if function.__name__ == "__init__" else _checked(function)

"""One canonical text for a description, its digest, and the random seeds derived from one."""

import dataclasses
import hashlib
import json
import math
from typing import Any


def canonical(value: Any) -> Any:
    """A description as JSON values: every field in full, class names included, defaults too.

    Covering the full description, not its difference from the defaults, means that editing a default can never
    give another experiment an old name. A class is named by its top-level package, so moving it inside one keeps
    old results valid.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        fields = {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": f"{cls.__module__.split('.')[0]}.{cls.__qualname__}", **fields}
    if isinstance(value, (tuple, list)):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {str(name): canonical(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no canonical text; use None for 'no limit'.")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"A {type(value).__name__} cannot stand in a description: {value!r}.")


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, 64 hexadecimal digits."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def seed_for(seed: int, *names: str | int) -> int:
    """An independent 63-bit seed for a named purpose: `seed_for(trial.seed, "order", epoch)`.

    Seeds by name, not by a shared stream, keep paired arms paired: an arm that draws more numbers for its states
    does not shift the numbers that initialise its decoder.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

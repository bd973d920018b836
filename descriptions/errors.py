"""Two ways in which a description can be wrong, told apart because a study treats them differently."""

import difflib
from collections.abc import Iterable


class MistakeError(ValueError):
    """The user wrote something that can never be right: an unknown name, a wrong type, a value out of range.

    A study that contains one does not start.
    """


class ImpossibleError(ValueError):
    """Each value is right on its own but they cannot be combined. A plan skips that cell and shows the sentence."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`" Did you mean 'bilinear'?"` for the nearest allowed word, or nothing when none is near."""
    near = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""

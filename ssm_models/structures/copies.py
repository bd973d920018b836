"""Tying: `n_ssm` copies of (A, B) that the channels of a layer share; channel h uses copy h mod n_ssm."""

from descriptions import ImpossibleError, require


def check_copies(n_ssm: int | None) -> None:
    """Raise `MistakeError` unless there is at least one copy; None is one for each channel."""
    require(n_ssm is None or n_ssm >= 1, f"n_ssm={n_ssm} must be at least 1, or None.")


def check_sharing(n_ssm: int | None, width: int) -> None:
    """Raise `ImpossibleError` unless the copies can be shared out evenly."""
    if n_ssm is not None and width % n_ssm:
        raise ImpossibleError(f"n_ssm={n_ssm} does not divide width={width}.")


def refuse_equal_copies(n_ssm: int | None, init: object, *, frozen: bool, varied: bool) -> None:
    """Raise `ImpossibleError` for copies of (A, B) that start equal and are never trained: tying them does nothing."""
    if n_ssm is not None and frozen and not varied:
        raise ImpossibleError(
            f"n_ssm={n_ssm} ties copies of (A, B), but init={init!r} starts all of them equal "
            "and lr_A=0, lr_B=0 freeze them: the arm would equal the one with n_ssm=None."
        )

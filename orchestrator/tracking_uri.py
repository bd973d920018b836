"""Addresses of MLflow: `sqlite:///results/mlflow.db` is a file, `http://host:5000` a server."""

import re
from pathlib import Path

from descriptions import MistakeError

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


def check_uri(uri: str) -> None:
    """Raise `MistakeError` unless the scheme of a tracking URI is one that MLflow knows."""
    if re.split(r"[+:]", uri)[0] not in SCHEMES:
        raise MistakeError(
            f"The tracking URI {without_password(uri)!r} must begin with one of {list(SCHEMES)}: "
            f"'sqlite:///results/mlflow.db' is a file, 'http://host:5000' a server."
        )


def database_file(uri: str) -> Path | None:
    """The file behind a SQLite URI; None for a server, or a database in memory."""
    path = uri.removeprefix("sqlite:///")
    return None if path in (uri, "", ":memory:") or "?" in path else Path(path)


def without_password(text: str) -> str:
    """A text that may quote URIs, with `user:***@host` in them."""
    return re.sub(r"(://[^:/@\s]+):[^@\s]+@", r"\1:***@", text)

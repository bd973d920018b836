"""What a description is: a frozen dataclass whose fields are checked, which has one canonical text, and whose
fields can be read and replaced by a dotted path. Models, tasks, training and trials are all descriptions.
"""

from descriptions.digest import canonical, digest, seed_for
from descriptions.errors import ImpossibleError, MistakeError, did_you_mean
from descriptions.fields import check_fields, one_of, require
from descriptions.paths import exists, paths, read, replace, replace_all

__all__ = [
    "ImpossibleError",
    "MistakeError",
    "canonical",
    "check_fields",
    "did_you_mean",
    "digest",
    "exists",
    "one_of",
    "paths",
    "read",
    "replace",
    "replace_all",
    "require",
    "seed_for",
]

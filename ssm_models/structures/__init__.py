"""How the state moves: one structure a file."""

from ssm_models.structures.diagonal import Diagonal
from ssm_models.structures.structure import SSM, Spectrum, Structure

#: Name -> the description of a structure, whose defaults make one. `ablate list` shows it, tests run over it.
STRUCTURES: dict[str, type[Structure]] = {"Diagonal": Diagonal}

__all__ = ["SSM", "STRUCTURES", "Diagonal", "Spectrum", "Structure"]

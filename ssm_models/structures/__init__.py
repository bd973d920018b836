"""How the state moves: one structure a file."""

from ssm_models.structures.companion import Companion, Shift
from ssm_models.structures.dense import Dense
from ssm_models.structures.dfout import DFouT
from ssm_models.structures.diagonal import Diagonal
from ssm_models.structures.dplr import DPLR
from ssm_models.structures.dss import DSS
from ssm_models.structures.ema import EMA
from ssm_models.structures.linear_rnn import LinearRNN
from ssm_models.structures.lru import LRU
from ssm_models.structures.mimo import MIMO
from ssm_models.structures.real_diagonal import RealDiagonal
from ssm_models.structures.structure import SSM, Spectrum, Structure

#: Name -> the description of a structure, whose defaults make one. `ablate list` shows it, tests run over it.
STRUCTURES: dict[str, type[Structure]] = {
    "Diagonal": Diagonal,
    "DPLR": DPLR,
    "DSS": DSS,
    "RealDiagonal": RealDiagonal,
    "EMA": EMA,
    "DFouT": DFouT,
    "Dense": Dense,
    "MIMO": MIMO,
    "LRU": LRU,
    "LinearRNN": LinearRNN,
    "Companion": Companion,
    "Shift": Shift,
}

__all__ = [
    "DPLR",
    "DSS",
    "EMA",
    "LRU",
    "MIMO",
    "SSM",
    "STRUCTURES",
    "Companion",
    "DFouT",
    "Dense",
    "Diagonal",
    "LinearRNN",
    "RealDiagonal",
    "Shift",
    "Spectrum",
    "Structure",
]

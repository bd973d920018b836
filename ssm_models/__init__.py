"""What is compared: state-space models, every design choice a field of one frozen description.

Reading order: `config.py` (the fields), `structures/diagonal.py` (a layer), `discretize.py` and `kernel.py`
(its mathematics), `block.py` and `model.py` (what stands around it).
"""

from ssm_models.config import ModelConfig, fit_to
from ssm_models.discretize import GBT
from ssm_models.init import Mixed
from ssm_models.model import Model, build_model, count_parameters, parameter_groups
from ssm_models.ptd import PTD
from ssm_models.structures import (
    DPLR,
    DSS,
    EMA,
    LRU,
    MIMO,
    SSM,
    Companion,
    Dense,
    DFouT,
    Diagonal,
    LinearRNN,
    RealDiagonal,
    Shift,
    Spectrum,
    Structure,
)

__all__ = [
    "DPLR",
    "DSS",
    "EMA",
    "GBT",
    "LRU",
    "MIMO",
    "PTD",
    "SSM",
    "Companion",
    "DFouT",
    "Dense",
    "Diagonal",
    "LinearRNN",
    "Mixed",
    "Model",
    "ModelConfig",
    "RealDiagonal",
    "Shift",
    "Spectrum",
    "Structure",
    "build_model",
    "count_parameters",
    "fit_to",
    "parameter_groups",
]

"""Fields whose values are names, and the dict that holds them: what an axis over such a field can take."""

from collections.abc import Collection
from typing import Any

from ssm_models.block import ACTIVATIONS, GATES, NORMS
from ssm_models.discretize import DISCRETIZATIONS, GBT
from ssm_models.ends import DECODERS, ENCODERS, POOLINGS
from ssm_models.init import INIT_NAMES, Mixed
from ssm_models.inputs import C_INITS, INPUTS
from ssm_models.projections import INPUT_PROJECTIONS, OUTPUT_PROJECTIONS
from ssm_models.ptd import PTD
from ssm_models.structures.dfout import FREQUENCIES
from ssm_models.structures.dss import KERNELS
from ssm_models.structures.lru import PARAMETERIZATIONS
from ssm_models.structures.step_size import STEP_TRANSFORMS
from ssm_models.transform import TRANSFORMS

#: Field of a structure -> its names. A structure may refuse some of them, with the reason.
STRUCTURE_LEVELS: dict[str, Collection[str]] = {
    "init": sorted(INIT_NAMES),
    "discretization": DISCRETIZATIONS,
    "real_transform": TRANSFORMS,
    "imag_transform": TRANSFORMS,
    "B_init": [*INPUTS, *INPUT_PROJECTIONS],
    "C_init": list(dict.fromkeys([*C_INITS, *OUTPUT_PROJECTIONS])),
    "dt_transform": STEP_TRANSFORMS,
    "kernel": KERNELS,
    "frequencies": FREQUENCIES,
    "parameterization": PARAMETERIZATIONS,
}

#: Field of a structure -> examples of levels that have parameters of their own.
PARAMETRISED_LEVELS: dict[str, list[Any]] = {
    "init": [Mixed(("lin", "inv")), PTD()],
    "discretization": [GBT(0.7)],
}

#: Field of a model -> its names.
MODEL_LEVELS: dict[str, Collection[str]] = {
    "encoder": ENCODERS,
    "norm": NORMS,
    "activation": ACTIVATIONS,
    "gate": GATES,
    "pooling": POOLINGS,
    "decoder": DECODERS,
}

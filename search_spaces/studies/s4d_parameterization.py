"""Which choices of the S4D parameterization matter: the question of section 5.1 of arXiv:2206.11893.

Re A stored in five ways, crossed with the discretisation and with B trained or not; beside them the kernel of DSS,
which is the same sum over modes with each mode normalised over the sequence (softmax) or not. There the
paper saw no difference between the kernels and between zoh and bilinear, and a small gain from training B.
"""

import dataclasses

from search_spaces.settings import PAPER_COPYING, PAPER_DELAY, SMALL_COPYING, s4d_ablation, small
from search_spaces.study import Axis, Study
from ssm_models import DSS, Diagonal
from tasks import Digits

STUDY = Study(
    name="s4d_parameterization",
    question="Which choices of the S4D parameterization matter: Re A, the discretisation, a trained B, the kernel?",
    baseline=small(Diagonal()),
    axes=(
        Axis("model.structure", [Diagonal(), DSS(kernel="softmax"), DSS(kernel="exp")]),
        Axis("model.structure.real_transform", ["exp", "softplus", "relu", "sigmoid", "none"]),
        Axis("model.structure.discretization", ["zoh", "bilinear"]),
        Axis("model.structure.lr_B", [1e-3, 0.0]),
    ),
    design="factorial",
    tasks=(Digits(), SMALL_COPYING),
    seeds=(0, 1, 2),
)

#: The ablation model of the paper on the memory tasks at their published lengths.
PAPER = dataclasses.replace(
    STUDY,
    name="s4d_parameterization_paper",
    baseline=s4d_ablation(Diagonal()),
    tasks=(Digits(), PAPER_COPYING, PAPER_DELAY),
)

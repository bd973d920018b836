"""Which choices of the S4D parameterization matter: the question of section 5.1 of arXiv:2206.11893.

Re A stored in five ways, crossed with the discretisation and with B trained or not; beside them the kernel of DSS,
which is the same sum over modes with each mode normalised over the sequence (softmax) or not. There the
paper saw no difference between the kernels and between zoh and bilinear, and a small gain from training B.
"""

import dataclasses

from search_spaces.study import Axis, On, Recipe, Study
from search_spaces.training import Training
from ssm_models import DSS, Diagonal, ModelConfig
from tasks import Copying, Delay, Digits

STUDY = Study(
    name="s4d_parameterization",
    question="Which choices of the S4D parameterization matter: Re A, the discretisation, a trained B, the kernel?",
    baseline=Recipe(
        model=ModelConfig(depth=2, width=32),
        training=Training(epochs=15, batch_size=64, lr=4e-3),
    ),
    axes=(
        Axis("model.structure", [Diagonal(), DSS(kernel="softmax"), DSS(kernel="exp")]),
        Axis("model.structure.real_transform", ["exp", "softplus", "relu", "sigmoid", "none"]),
        Axis("model.structure.discretization", ["zoh", "bilinear"]),
        Axis("model.structure.lr_B", [1e-3, 0.0]),
    ),
    design="factorial",
    tasks=(
        Digits(),
        On(Copying(blanks=64, memorize=6), {"training.epochs": 6, "training.batch_size": 32}),
    ),
    seeds=(0, 1, 2),
)

#: The ablation model of the paper, 4 layers and H = 128, N = 64, on the memory tasks at their published lengths.
PAPER = dataclasses.replace(
    STUDY,
    name="s4d_parameterization_paper",
    baseline=Recipe(
        model=ModelConfig(gate="linear", norm="post-layer", dropout=0.1),
        training=Training(epochs=100, batch_size=50, lr=1e-2, warmup=0.01),
    ),
    tasks=(
        Digits(),
        On(
            Copying(blanks=1024, memorize=1024, alphabet=64, n_train=10_000, n_validation=1000, n_test=1000),
            {"training.batch_size": 8},
        ),
        Delay(length=4000, lag=1000, n_train=16_384, n_validation=1024, n_test=1024),
    ),
)

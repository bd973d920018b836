"""What the low-rank term of S4 is worth: with it, dropped, perturbed away, and with no oscillation at all.

S4-LegS keeps HiPPO's normal-plus-low-rank matrix; S4D-LegS drops the low-rank term (arXiv:2206.11893); S4-PTD
diagonalises a nearby matrix instead (arXiv:2310.01698); S4D-Real has real modes only.
"""

import dataclasses

from search_spaces.study import Axis, On, Recipe, Study
from search_spaces.training import Training
from ssm_models import DPLR, PTD, Diagonal, ModelConfig, RealDiagonal
from tasks import Copying, Delay, Digits

STUDY = Study(
    name="s4_vs_diagonal",
    question="What is the low-rank term of S4 worth?",
    baseline=Recipe(
        model=ModelConfig(structure=DPLR(), depth=2, width=32),
        training=Training(epochs=15, batch_size=64, lr=4e-3),
    ),
    axes=(
        Axis(
            "model.structure",
            [
                DPLR(),
                Diagonal(init="legs", B_init="hippo"),
                Diagonal(init=PTD(), B_init="hippo"),
                Diagonal(),
                RealDiagonal(),
            ],
        ),
    ),
    tasks=(
        Digits(),
        On(Copying(blanks=64, memorize=6), {"training.epochs": 6, "training.batch_size": 32}),
        On(
            Delay(length=512, lag=128),
            {
                "model.depth": 1,
                "model.width": 4,
                "model.norm": "none",
                "model.activation": "none",
                "model.gate": "none",
                "model.residual": False,
                "training.epochs": 12,
                "training.batch_size": 32,
                "training.lr": 1e-2,
            },
        ),
    ),
    seeds=(0, 1, 2),
)

#: The ablation model of the S4D paper, 4 layers and H = 128, N = 64, on the memory tasks at their published lengths.
PAPER = dataclasses.replace(
    STUDY,
    name="s4_vs_diagonal_paper",
    baseline=Recipe(
        model=ModelConfig(structure=DPLR(), gate="linear", norm="post-layer", dropout=0.1),
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

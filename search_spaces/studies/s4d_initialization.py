"""Where the eigenvalues of S4D start, and whether training them makes up for a bad start (arXiv:2206.11893, 5.2).

The published laws, and controls that break them: frequencies scaled by 1/100 and 100, drawn at random, and none at
all (S4D-Real). Each with A trained and with A frozen: a good start needs no training, a bad one is not repaired by it.
"""

import dataclasses

from search_spaces.study import Axis, On, Recipe, Study
from search_spaces.training import Training
from ssm_models import Diagonal, ModelConfig
from tasks import Copying, Delay, Digits

LAWS = [Diagonal(init=init) for init in ("lin", "inv", "inv2", "quad", "legs", "real", "rand")]
BROKEN = [Diagonal(imag_scale=0.01), Diagonal(imag_scale=100.0), Diagonal(imag_random=True), Diagonal(real_random=True)]

#: One linear layer without anything beside it, as in the paper that introduced the task: what is left is the kernel.
BARE = {
    "model.depth": 1,
    "model.width": 4,
    "model.norm": "none",
    "model.activation": "none",
    "model.gate": "none",
    "model.residual": False,
}

STUDY = Study(
    name="s4d_initialization",
    question="Where should the eigenvalues of S4D start, and does training them make up for a bad start?",
    baseline=Recipe(
        model=ModelConfig(depth=2, width=32),
        training=Training(epochs=15, batch_size=64, lr=4e-3),
    ),
    axes=(
        Axis("model.structure", [*LAWS, *BROKEN]),
        Axis("model.structure.lr_A", [1e-3, 0.0]),
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
    name="s4d_initialization_paper",
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
        On(
            Delay(length=4000, lag=1000, n_train=16_384, n_validation=1024, n_test=1024),
            {**BARE, "training.epochs": 20},
        ),
    ),
)

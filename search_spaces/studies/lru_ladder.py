"""From a linear RNN to LRU one step at a time: which of them matters (arXiv:2303.06349, tables 7 and 8).

dense -> complex diagonal -> exponential -> stable exponential -> ring -> normalised. The paper's sequential CIFAR
scores rise at diagonalising and at the stable exponential; long tasks need the ring, the longest the normalisation.
"""

import dataclasses

from search_spaces.study import Axis, On, Recipe, Study
from search_spaces.training import Training
from ssm_models import ModelConfig
from ssm_models.structures.lru import LADDER
from tasks import Copying, Digits

#: The rungs with 32 complex modes: small enough for a CPU.
SMALL = [dataclasses.replace(rung, state=32) for rung in LADDER.values()]  # type: ignore[type-var]  # dataclasses

STUDY = Study(
    name="lru_ladder",
    question="Which step from a linear RNN to LRU matters?",
    baseline=Recipe(
        model=ModelConfig(structure=SMALL[0], depth=2, width=32),
        training=Training(epochs=15, batch_size=64, lr=4e-3),
    ),
    axes=(Axis("model.structure", SMALL),),
    tasks=(
        Digits(),
        On(Copying(blanks=64, memorize=6), {"training.epochs": 6, "training.batch_size": 32}),
    ),
    seeds=(0, 1, 2),
)

#: The paper's model, 6 layers of H = 512 and N = 384, on the memory task at its published length.
PAPER = dataclasses.replace(
    STUDY,
    name="lru_ladder_paper",
    baseline=Recipe(
        model=ModelConfig(structure=LADDER["dense"], depth=6, width=512, norm="pre-batch", dropout=0.1),
        training=Training(epochs=100, batch_size=50, lr=4e-3, weight_decay=0.05),
    ),
    axes=(Axis("model.structure", list(LADDER.values())),),
    tasks=(
        Digits(),
        Copying(blanks=1024, memorize=1024, alphabet=64, n_train=10_000, n_validation=1000, n_test=1000),
    ),
)

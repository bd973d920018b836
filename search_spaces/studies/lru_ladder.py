"""From a linear RNN to LRU one step at a time: which of them matters (arXiv:2303.06349, tables 7 and 8).

dense -> complex diagonal -> exponential -> stable exponential -> ring -> normalised. The paper's sequential CIFAR
scores rise at diagonalising and at the stable exponential; long tasks need the ring, the longest the normalisation.
"""

import dataclasses

from search_spaces.settings import PAPER_COPYING, SMALL_COPYING, small
from search_spaces.study import Axis, Recipe, Study
from search_spaces.training import Training
from ssm_models import ModelConfig
from ssm_models.structures.lru import LADDER
from tasks import Digits

#: The rungs with 32 complex modes: small enough for a CPU.
SMALL = [dataclasses.replace(rung, state=32) for rung in LADDER.values()]  # type: ignore[type-var]  # dataclasses

STUDY = Study(
    name="lru_ladder",
    question="Which step from a linear RNN to LRU matters?",
    baseline=small(SMALL[0]),
    axes=(Axis("model.structure", SMALL),),
    tasks=(Digits(), SMALL_COPYING),
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
    tasks=(Digits(), PAPER_COPYING),
)

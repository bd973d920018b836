"""Where the eigenvalues of S4D start, and whether training them makes up for a bad start (arXiv:2206.11893, 5.2).

The published laws, and controls that break them: frequencies scaled by 1/100 and 100, drawn at random, and none at
all (S4D-Real). Each with A trained and with A frozen: a good start needs no training, a bad one is not repaired by it.
"""

import dataclasses

from search_spaces.settings import PAPER_COPYING, PAPER_DELAY, SMALL_COPYING, s4d_ablation, small
from search_spaces.study import Axis, Study
from ssm_models import Diagonal
from tasks import Digits

LAWS = [Diagonal(init=init) for init in ("lin", "inv", "inv2", "quad", "legs", "real", "rand")]
BROKEN = [Diagonal(imag_scale=0.01), Diagonal(imag_scale=100.0), Diagonal(imag_random=True), Diagonal(real_random=True)]

STUDY = Study(
    name="s4d_initialization",
    question="Where should the eigenvalues of S4D start, and does training them make up for a bad start?",
    baseline=small(Diagonal()),
    axes=(
        Axis("model.structure", [*LAWS, *BROKEN]),
        Axis("model.structure.lr_A", [1e-3, 0.0]),
    ),
    design="factorial",
    tasks=(Digits(), SMALL_COPYING),
    seeds=(0, 1, 2),
)

#: The ablation model of the paper on the memory tasks at their published lengths.
PAPER = dataclasses.replace(
    STUDY,
    name="s4d_initialization_paper",
    baseline=s4d_ablation(Diagonal()),
    tasks=(Digits(), PAPER_COPYING, PAPER_DELAY),
)

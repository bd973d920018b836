"""What the low-rank term of S4 is worth: with it, dropped, perturbed away, and with no oscillation at all.

S4-LegS keeps HiPPO's normal-plus-low-rank matrix; S4D-LegS drops the low-rank term (arXiv:2206.11893); S4-PTD
diagonalises a nearby matrix instead (arXiv:2310.01698); S4D-Real has real modes only.
"""

import dataclasses

from search_spaces.settings import PAPER_COPYING, PAPER_DELAY, SMALL_COPYING, SMALL_DELAY, s4d_ablation, small
from search_spaces.study import Axis, Study
from ssm_models import DPLR, PTD, Diagonal, RealDiagonal
from tasks import Digits

STUDY = Study(
    name="s4_vs_diagonal",
    question="What is the low-rank term of S4 worth?",
    baseline=small(DPLR()),
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
    tasks=(Digits(), SMALL_COPYING, SMALL_DELAY),
    seeds=(0, 1, 2),
)

#: The ablation model of the S4D paper on the memory tasks at their published lengths.
PAPER = dataclasses.replace(
    STUDY,
    name="s4_vs_diagonal_paper",
    baseline=s4d_ablation(DPLR()),
    tasks=(Digits(), PAPER_COPYING, PAPER_DELAY),
)

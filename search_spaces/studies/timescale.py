"""The range of step sizes against the initialisation, at three distances to remember (arXiv:2206.12037, section 5).

A window of the Fourier or Legendre basis is 2 / dt steps long, and that of the exponentially warped one about 1 / dt.
So dt = 2 / lag is what a window needs, and a range that holds it should do; the paper's four ranges, relative to
its lag of 1,000, are taken over to the lags here.
"""

import dataclasses

from search_spaces.settings import BARE, PAPER_DELAY, small
from search_spaces.study import Axis, On, Study
from ssm_models import DPLR, Diagonal
from tasks import Delay

#: Ends of the range of dt in units of 1 / lag: the paper's (1, 2), (2, 2), (1, 100) and (2, 100) thousandths.
RANGES = [(1, 2), (2, 2), (1, 100), (2, 100)]

#: S4D with each range, for the middle one of the distances.
SMALL = [Diagonal(dt_min=low / 128, dt_max=high / 128) for low, high in RANGES]

#: S4 with each range at the size of the paper.
LARGE = [DPLR(state=1024, dt_min=low / 1000, dt_max=high / 1000) for low, high in RANGES]

#: Seconds a trial on one core.
BRIEF = {**BARE, "training.epochs": 12, "training.batch_size": 32, "training.lr": 1e-2}

STUDY = Study(
    name="timescale",
    question="Which range of step sizes does each initialisation need to remember over a distance?",
    baseline=small(SMALL[0]),
    axes=(
        Axis("model.structure", SMALL),
        Axis("model.structure.init", ["lin", "inv", "legs", "fout"]),
    ),
    design="factorial",
    tasks=tuple(On(Delay(length=512, lag=lag), BRIEF, name=f"lag {lag}") for lag in (32, 128, 256)),
    seeds=(0, 1, 2),
)

#: The paper's setting: length 4,000, lag 1,000, N = 1,024 with the low-rank term, trained for 20 epochs.
PAPER = dataclasses.replace(
    STUDY,
    name="timescale_paper",
    baseline=small(LARGE[0]),
    axes=(
        Axis("model.structure", LARGE),
        Axis("model.structure.init", ["legs", "legt", "fout"]),
    ),
    tasks=(PAPER_DELAY,),
)

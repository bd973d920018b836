"""Does the initialisation of a diagonal SSM matter, and does its discretisation? Minutes on two cores."""

from search_spaces.study import Axis, On, Recipe, Study
from search_spaces.training import Training
from ssm_models import Diagonal, ModelConfig
from tasks import Copying, Delay, Digits

STUDY = Study(
    name="quickstart",
    question="Does the initialisation of a diagonal SSM matter, and does its discretisation?",
    baseline=Recipe(
        model=ModelConfig(structure=Diagonal(state=32, init="lin", discretization="zoh"), depth=2, width=32),
        training=Training(epochs=25, batch_size=64, lr=4e-3),
    ),
    axes=(
        Axis("model.structure.init", ["lin", "inv", "legs", "real", "rand"]),
        Axis("model.structure.discretization", ["zoh", "bilinear", "dirac"]),
    ),
    design="one_at_a_time",
    tasks=(
        Digits(),
        # One linear SSM, as in the paper that introduced the task: what is left is the kernel.
        On(
            Delay(length=512, lag=128),
            {
                "model.structure.state": 64,
                "model.structure.dt_min": 1 / 128,  # one channel sees 1 / dt = 128 steps back
                "model.structure.dt_max": 1 / 128,
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
        On(Copying(blanks=64, memorize=6), {"training.epochs": 6, "training.batch_size": 32}),
    ),
    seeds=(0, 1, 2),
)

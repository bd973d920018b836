"""What to try: studies, their designs, and the trials that they amount to."""

from search_spaces.design import DESIGNS
from search_spaces.load import built_in_studies, load_study, names_code, variants
from search_spaces.plan import Arm, Omitted, Plan, plan
from search_spaces.study import Axis, On, Recipe, Study, label
from search_spaces.training import SCHEDULES, Training
from search_spaces.trial import Trial

__all__ = [
    "DESIGNS",
    "SCHEDULES",
    "Arm",
    "Axis",
    "Omitted",
    "On",
    "Plan",
    "Recipe",
    "Study",
    "Training",
    "Trial",
    "built_in_studies",
    "label",
    "load_study",
    "names_code",
    "plan",
    "variants",
]

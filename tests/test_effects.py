import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from descriptions import MistakeError
from orchestrator.effects import effects
from orchestrator.notes import notes
from orchestrator.paired import detectable, holm, seeds_for_sign_flip, seeds_needed, sign_flip_floor

GOOD = {"baseline": [0.80, 0.82, 0.79], "init=legs": [0.83, 0.86, 0.81], "norm=batch": [0.81, 0.80, 0.80]}


def trials(arms, task="listops", higher_is_better=True, metric="accuracy", lost=None, chance=0.1):
    """Results of one task: scores by arm, seeds 0, 1, ...; the first arm is the baseline; `lost` are statuses by
    (arm, seed).
    """
    rows = []
    for i, (arm, scores) in enumerate(arms.items()):
        for seed, score in enumerate(scores):
            status = (lost or {}).get((arm, seed), "ok")
            reason = None if status == "ok" else f"It {status}."
            rows.append((arm, seed, i == 0, status, reason, score if status == "ok" else None))
    table = pd.DataFrame(rows, columns=["arm", "seed", "baseline", "status", "reason", "test"])
    given = {"metric": metric, "higher_is_better": higher_is_better, "chance": chance}
    return table.assign(study="s", task=task, seconds=2.0, parameters=1000, **given)


def row(df, arm, task="listops"):
    found = effects(df)
    return found[(found["arm"] == arm) & (found["task"] == task)].iloc[0]


def many(studies, arms, seeds, seed, effect=0.0, shared=1.0):
    """`studies` tasks of normal scores; arm a1 has `effect`, in standard deviations of a paired difference."""
    noise = np.random.default_rng(seed).normal(size=(studies, arms + 1, seeds))
    scores = noise + shared * np.random.default_rng(seed + 1).normal(size=(studies, 1, seeds))
    scores[:, 1] += effect * math.sqrt(2)
    task, arm, number = np.indices(scores.shape).reshape(3, -1)
    return pd.DataFrame(
        {
            "task": np.char.add("t", task.astype(str)).astype(object),
            "arm": np.char.add("a", arm.astype(str)).astype(object),
            "seed": number,
            "baseline": arm == 0,
            "test": scores.ravel(),
        }
    ).assign(
        study="s",
        status="ok",
        reason=None,
        metric="score",
        higher_is_better=True,
        chance=-9.0,
        seconds=1.0,
        parameters=1,
    )


@pytest.fixture(scope="module")
def null_studies():
    """2,000 studies of 8 arms that are all the baseline under another name."""
    return effects(many(studies=2000, arms=8, seeds=5, seed=11))


# The numbers


def test_a_row_equals_the_formulas_by_hand():
    found = row(trials(GOOD), "init=legs")
    d = np.array(GOOD["init=legs"]) - np.array(GOOD["baseline"])
    error, critical = d.std(ddof=1) / math.sqrt(3), stats.t.ppf(0.975, 2)
    p = 2 * stats.t.sf(abs(d.mean() / error), 2)
    assert found["effect"] == pytest.approx(d.mean())
    assert found["effect_low"] == pytest.approx(d.mean() - critical * error)
    assert found["effect_high"] == pytest.approx(d.mean() + critical * error)
    assert found["p"] == pytest.approx(p)
    assert found["p_holm"] == pytest.approx(2 * p), "the smaller of two p"
    x = np.array(GOOD["init=legs"])
    assert (found["mean"], found["sd"]) == (pytest.approx(x.mean()), pytest.approx(x.std(ddof=1)))
    assert found["high"] - found["mean"] == pytest.approx(critical * x.std(ddof=1) / math.sqrt(3))
    assert found["mean"] - found["low"] == pytest.approx(critical * x.std(ddof=1) / math.sqrt(3))
    assert found["detectable"] == pytest.approx(stats.t.ppf(1 - 0.05 / 4, 2) * error)
    assert (found["n"], found["planned"], found["pairs"], found["note"]) == (3, 3, 3, "")
    assert (found["parameters"], found["seconds"], found["chance"]) == (1000, 2.0, 0.1)


def test_confidence_sets_the_intervals_and_the_level():
    df = trials({"baseline": [0.1, 0.2, 0.3, 0.4], "a": [0.21, 0.29, 0.42, 0.5]})
    d = np.array([0.11, 0.09, 0.12, 0.1])
    for confidence in (0.8, 0.99):
        found = effects(df, confidence=confidence).iloc[1]
        half = stats.t.ppf((1 + confidence) / 2, 3) * d.std(ddof=1) / 2
        assert found["effect_high"] == pytest.approx(d.mean() + half)
        assert found["confidence"] == confidence
    assert not effects(df, confidence=0.9999).iloc[1]["separable"]


@settings(max_examples=25, deadline=None)  # statsmodels collects garbage in every call
@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=12))
def test_holm_equals_statsmodels(p):
    ours = holm({str(i): value for i, value in enumerate(p)} | {"none": math.nan})
    theirs = multipletests(p, method="holm")[1]
    assert [ours[str(i)] for i in range(len(p))] == pytest.approx(theirs.tolist())
    assert "none" not in ours


@pytest.mark.parametrize("size", [0.1, 0.5, 0.8, 1.3, 2.0, 3.5])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8])
def test_seeds_needed_is_the_first_n_with_80_percent_power(size, alpha):
    n = seeds_needed(-size * 0.02, 0.02, alpha)
    power = TTestPower()
    assert power.power(size, n, alpha) >= 0.8
    assert n == 2 or power.power(size, n - 1, alpha) < 0.8


def test_seeds_needed_of_extreme_effects():
    assert seeds_needed(1e9, 1.0, 0.05) == 2
    assert seeds_needed(5.0, 1.0, 0.05 / 8) <= 4, "where statsmodels' power is NaN"
    assert seeds_needed(0.0, 1.0, 0.05) is None
    assert seeds_needed(1e-6, 1.0, 0.05) is None, "more seeds than anyone runs"
    assert seeds_needed(0.1, 0.0, 0.05) is None, "no spread seen"


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (5, 0.0625), (8, 0.0078125)])
def test_no_distribution_free_test_goes_below_the_floor(n, p):
    d = np.linspace(1, 2, n)  # all of one sign: the strongest evidence that n pairs can be
    flips = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_floor(n) == p == flips.pvalue == stats.wilcoxon(d, method="exact").pvalue


@pytest.mark.parametrize(("m", "n"), [(1, 6), (6, 8), (8, 9), (20, 10)])
def test_seeds_for_a_distribution_free_claim(m, n):
    assert seeds_for_sign_flip(m, 0.05) == n
    assert multipletests([sign_flip_floor(n)] + [1.0] * (m - 1), method="holm")[1][0] < 0.05
    assert multipletests([sign_flip_floor(n - 1)] + [1.0] * (m - 1), method="holm")[1][0] >= 0.05


def test_detectable_is_where_significance_begins():
    shape = np.array([-1.0, 0.3, 0.7, -0.4, 0.4])  # mean 0
    limit = detectable(5, shape.std(ddof=1), 0.01)
    assert stats.ttest_1samp(shape + 1.001 * limit, 0).pvalue < 0.01
    assert stats.ttest_1samp(shape + 0.999 * limit, 0).pvalue > 0.01


def test_needed_and_detectable_use_the_level_of_the_family():
    base = np.array([0.5, 0.52, 0.49, 0.51, 0.5])
    pattern = np.array([-1.0, 0.5, 1.0, -0.5, 0.0])
    pattern /= pattern.std(ddof=1)
    arms = {"baseline": base, "a": base + 0.01 * (0.9 + pattern)}
    arms |= {f"b{i}": base + 0.01 * np.roll(pattern, i + 1) for i in range(3)}
    found = row(trials(arms), "a")
    assert found["n_needed"] == seeds_needed(0.9, 1.0, 0.05 / 4)
    assert found["detectable"] == pytest.approx(0.01 * stats.t.ppf(1 - 0.05 / 8, 4) / math.sqrt(5))


# Over many simulated studies


def test_intervals_cover_the_truth_at_their_nominal_rate(null_studies):
    for arm, low, high in (("a0", "low", "high"), ("a1", "effect_low", "effect_high")):
        rows = null_studies[null_studies["arm"] == arm]
        covered = ((rows[low] < 0) & (rows[high] > 0)).mean()
        assert 0.935 < covered < 0.965, arm  # 2,000 studies: three standard errors


def test_eight_null_arms_are_called_separable_in_at_most_5_percent_of_studies(null_studies):
    arms = null_studies[~null_studies["baseline"]]
    by_chance = arms["separable"].groupby(arms["task"]).any().mean()
    uncorrected = (arms["p"] < 0.05).groupby(arms["task"]).any().mean()
    assert 0.02 < by_chance < 0.055, "not above the level, and not by being useless"
    assert uncorrected > 0.2, "what Holm is for"


def test_a_planted_effect_is_found_with_the_power_that_was_planned():
    n = seeds_needed(1.0, 1.0, 0.05 / 4)
    found = effects(many(studies=500, arms=4, seeds=n, seed=5, effect=1.0))
    rate = found.loc[found["arm"] == "a1", "separable"].mean()
    assert 0.76 < rate < 0.87  # Holm's later steps add a little to 0.8; 500 studies: two standard errors are 0.036
    assert found.loc[found["arm"].isin(["a2", "a3", "a4"]), "separable"].mean() < 0.04


def test_an_aa_arm_finds_nothing():
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.8, 0.01, size=(2, 10))
    found = row(trials({"baseline": first, "baseline again": second}), "baseline again")
    assert not found["separable"]
    assert found["effect_low"] < 0 < found["effect_high"]


# What does not change the numbers


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.permutations([0, 1, 2, 3]))
def test_the_order_of_rows_and_the_names_of_seeds_do_not_matter(random, seeds):
    arms = {"baseline": [0.1, 0.25, 0.3, 0.42], "a": [0.2, 0.28, 0.4, 0.5], "b": [0.11, 0.2, 0.33, 0.4]}
    df = pd.concat([trials(arms, "x", lost={("a", 2): "oom"}), trials(arms, "y")], ignore_index=True)
    order = list(df.index)
    random.shuffle(order)
    expected = effects(df).set_index(["task", "arm"]).sort_index()
    shuffled = effects(df.loc[order]).set_index(["task", "arm"]).sort_index()
    pd.testing.assert_frame_equal(shuffled, expected, check_exact=True)
    renamed = df.assign(seed=[10 + seeds[seed] for seed in df["seed"]])
    pd.testing.assert_frame_equal(effects(renamed).set_index(["task", "arm"]).sort_index(), expected)


def test_a_metric_where_lower_is_better_keeps_the_sign_of_its_differences():
    up, down = row(trials(GOOD), "init=legs"), row(trials(GOOD, higher_is_better=False), "init=legs")
    assert up["effect"] == down["effect"] > 0
    assert up["p"] == down["p"]
    assert not down["higher_is_better"]


def test_tasks_and_arms_keep_their_order_with_the_baseline_first():
    df = trials({"baseline": [0.1, 0.2], "z": [0.3, 0.5], "a": [0.2, 0.1]}).iloc[::-1]
    found = effects(pd.concat([df, df.assign(task="delay")]))
    assert list(zip(found["task"], found["arm"], strict=True)) == [
        (task, arm) for task in ("listops", "delay") for arm in ("baseline", "a", "z")
    ]


# Where the trials do not give a number


def test_one_seed_gives_an_effect_but_no_interval_and_no_p():
    found = row(trials({"baseline": [0.5], "a": [0.6]}), "a")
    assert found["effect"] == pytest.approx(0.1)
    assert found[["low", "high", "effect_low", "effect_high", "p", "p_holm", "detectable"]].isna().all()
    assert pd.isna(found["n_needed"])
    assert not found["separable"]
    assert found["note"].startswith("One seed: no interval and no p; 2 give a paired t test, 6 allow p < 0.05")


def test_an_identical_arm_has_effect_0_and_p_1():
    found = row(trials({"baseline": [0.5, 0.6, 0.7], "a": [0.5, 0.6, 0.7], "b": [0.7, 0.6, 0.9]}), "a")
    assert (found["effect"], found["p"], found["p_holm"], found["separable"]) == (0.0, 1.0, 1.0, False)
    assert found[["effect_low", "effect_high", "detectable"]].isna().all()
    assert "the change did nothing" in found["note"]


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (10, 2 / 2**10)])
def test_a_constant_difference_gets_the_sign_flip_p_and_no_interval(n, p):
    base = np.linspace(0.3, 0.8, n)
    found = row(trials({"baseline": base, "a": base + 0.1}), "a")  # equal up to rounding: 0.1 is not a binary number
    assert found["effect"] == pytest.approx(0.1)
    assert found["p"] == p
    assert found["separable"] == (p < 0.05)
    assert math.isnan(found["effect_low"])
    assert "sign-flip" in found["note"]


def test_equal_scores_have_no_interval_of_the_mean():
    found = row(trials({"baseline": [1.0, 1.0, 1.0], "a": [0.9, 1.0, 0.8]}), "baseline")
    assert (found["mean"], found["sd"]) == (1.0, 0.0)
    assert math.isnan(found["low"])


@pytest.mark.parametrize("status", ["diverged", "oom", "failed", "pruned"])
def test_a_lost_trial_is_counted_and_makes_the_arm_conditional(status):
    df = trials(GOOD, lost={("init=legs", 1): status})
    found = row(df, "init=legs")
    assert (found["n"], found["planned"], found["pairs"]) == (2, 3, 2)
    assert (found["diverged"], found["failed"]) == ((1, 0) if status == "diverged" else (0, 1))
    assert found["mean"] == pytest.approx(0.82)
    assert found["effect"] == pytest.approx((0.03 + 0.02) / 2), "only where both finished"
    assert 0 < found["p"] < 1
    assert found["note"] == "1 of 3 did not finish; mean, effect and p hold for the 2 that did."
    assert found["reasons"] == f"1 {status} (It {status})"
    assert any("init=legs on listops, of 3: 1 " in line and "conditional" in line for line in notes(effects(df)))


def test_a_seed_that_the_baseline_lost_is_said_by_every_arm():
    df = trials(GOOD, lost={("baseline", 0): "diverged"})
    found = row(df, "init=legs")
    assert (found["n"], found["pairs"]) == (3, 2)
    assert found["mean"] == pytest.approx(np.mean(GOOD["init=legs"]))
    assert found["effect"] == pytest.approx((0.04 + 0.02) / 2)
    assert found["note"] == "The baseline finished 2 of its 3 seeds; effect and p are over those."
    assert "The baseline lost seeds on listops: so is every effect there." in notes(effects(df))


def test_an_ok_trial_without_a_finite_score_counts_as_failed():
    df = trials({"baseline": [0.5, 0.6, 0.7], "a": [0.6, math.inf, 0.9]})
    found = row(df, "a")
    assert (found["n"], found["failed"], found["reasons"]) == (2, 1, "1 failed (no finite test score)")


def test_a_task_where_nothing_finished_has_rows_without_numbers():
    lost = {(arm, seed): "diverged" for arm in GOOD for seed in range(3)}
    found = effects(pd.concat([trials(GOOD, "dead", lost=lost), trials(GOOD)]))
    dead = found[found["task"] == "dead"]
    assert len(dead) == 3
    assert dead[["mean", "effect", "p", "p_holm"]].isna().all(axis=None)
    assert dead["diverged"].tolist() == [3, 3, 3]
    assert dead["note"].str.startswith("None of 3 trials finished: no score.").all()
    assert any("no effects" in line for line in notes(found))


def test_an_arm_without_a_p_is_not_in_the_family():
    lost = {("norm=batch", seed): "oom" for seed in (0, 1)}
    df = trials(GOOD, lost=lost)
    assert row(df, "init=legs")["p_holm"] == row(df, "init=legs")["p"]
    assert "One pair" in row(df, "norm=batch")["note"] or "one seed" in row(df, "norm=batch")["note"]
    assert any("fewer than 2 seeds are paired" in line and "norm=batch" in line for line in notes(effects(df)))


def test_without_a_baseline_there_are_means_and_no_effects():
    found = effects(trials(GOOD).assign(baseline=False))
    assert found["mean"].notna().all()
    assert found[["effect", "p"]].isna().all(axis=None)
    assert found["note"].eq("There is no baseline to compare with.").all()
    assert "There is no baseline among the arms: no effects." in notes(found)


def test_one_arm_alone_has_a_mean():
    found = effects(trials({"baseline": [0.55, 0.56]}))
    assert found["mean"].tolist() == [pytest.approx(0.555)]
    assert found["note"].tolist() == [""]
    assert notes(found) == []


def test_arms_that_share_no_seed_are_not_compared():
    df = trials({"baseline": [0.5, 0.6], "a": [0.7, 0.9]})
    df.loc[df["arm"] == "a", "seed"] += 10
    found = row(df, "a")
    assert found["pairs"] == 0
    assert math.isnan(found["effect"])
    assert found["note"] == "The baseline finished 0 of its 2 seeds; effect and p are over those."


def test_no_trials_give_no_rows():
    found = effects(trials(GOOD).iloc[:0])
    assert found.empty
    assert "p_holm" in found.columns
    assert notes(found) == ["There are no trials."]


# What it refuses


def test_mistakes_are_named():
    df = trials(GOOD)
    with pytest.raises(MistakeError, match="no column 'chance'"):
        effects(df.drop(columns="chance"))
    with pytest.raises(MistakeError, match="'baseline' has seed 0 on 'listops' more than once"):
        effects(pd.concat([df, df.iloc[:1]]))
    with pytest.raises(MistakeError, match="several baselines: \\['baseline', 'init=legs'\\]"):
        effects(df.assign(baseline=df["arm"] != "norm=batch"))
    with pytest.raises(MistakeError, match="scored in several ways"):
        effects(df.assign(metric=df["arm"]))
    with pytest.raises(MistakeError, match="confidence=95"):
        effects(df, confidence=95)


# Notes


def test_notes_say_what_three_seeds_can_show():
    rng = np.random.default_rng(0)
    arms = {name: rng.normal(0.8, 0.01, 3) for name in ("baseline", *"abcdefgh")}
    said = "\n".join(notes(effects(trials(arms))))
    assert "n = 3: p is the paired t test's and assumes normally distributed differences" in said
    assert "of 3 pairs cannot go below p = 0.25, and reaches p < 0.05 after Holm over 8 arms only from n = 9." in said


def test_notes_of_enough_seeds_do_not_warn_of_them():
    rng = np.random.default_rng(0)
    said = "\n".join(notes(effects(trials({name: rng.normal(0.8, 0.01, 10) for name in ("baseline", *"abcdefgh")}))))
    assert "n = 10: p is the paired t test's" in said
    assert "cannot go below" not in said


def test_notes_name_the_arms_that_are_not_separable_and_the_seeds_they_need():
    found = effects(trials(GOOD | {"d": [0.82, 0.83, 0.82]}))
    said = "\n".join(notes(found))
    rows = found[~found["baseline"] & ~found["separable"]]
    assert rows["arm"].tolist() == ["init=legs", "norm=batch", "d"]
    assert f"on listops: init=legs ({rows.iloc[0]['n_needed']} seeds), norm=batch (over 10,000 seeds), d (" in said
    assert "80 % power" in said


def test_notes_point_out_an_interval_that_leaves_out_0_without_a_corrected_p():
    arms = {"baseline": [0.5, 0.5, 0.5], "a": [0.58, 0.6, 0.63], "b": [0.5, 0.6, 0.4], "c": [0.4, 0.5, 0.55]}
    found = row(trials(arms | {"d": [0.52, 0.48, 0.51]}), "a")
    assert found["effect_low"] > 0
    assert not found["separable"]
    said = "\n".join(notes(effects(trials(arms | {"d": [0.52, 0.48, 0.51]}))))
    assert "leave out 0 but are not separable: a on listops (p = 0.019, 0.077 after Holm)" in said


def test_notes_name_arms_at_chance_and_arms_of_another_size():
    df = trials({"baseline": [0.8, 0.82, 0.81], "a": [0.1, 0.12, 0.09], "b": [0.7, 0.71, 0.72]})
    df.loc[df["arm"] == "b", "parameters"] = 1300
    said = notes(effects(df))
    assert "Not shown to be better than chance: a on listops." in said
    assert "Parameters differ from the baseline's: b (+30 %)." in said


def test_notes_name_arms_that_do_nothing():
    same = {"baseline": [0.5, 0.6, 0.7], "a": [0.5, 0.6, 0.7], "b": [0.6, 0.7, 0.8]}
    said = "\n".join(notes(effects(trials(same))))
    assert "Exactly the baseline's scores on every seed: a on listops." in said
    assert "The same difference on every seed, so no interval, and p is the sign-flip test's: b on listops." in said

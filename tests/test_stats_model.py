"""The mixed model: against repeated-measures ANOVA and MixedLM, and in its refusals."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from rating_tables import make_ratings
from statsmodels.stats.anova import AnovaRM

from studykit import stats
from studykit.errors import StudyError
from studykit.stats.reml import contrast, f_test, fit_reml
from studykit.stats.table import rated


@pytest.fixture(scope="module")
def crossed() -> pd.DataFrame:
    """Ten raters x four methods x three clips, with effects of each and of rater x method."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        np.indices((10, 4, 3)).reshape(3, -1).T, columns=["rater", "method", "clip"]
    )
    pair = table["rater"] * 4 + table["method"]
    table["y"] = (
        0.3 * table["method"]
        + rng.normal(0, 0.6, 10)[table["rater"]]
        + rng.normal(0, 0.5, 40)[pair]
        + rng.normal(0, 0.8, len(table))
    )
    return table.assign(pair=pair)


def _design(table: pd.DataFrame) -> np.ndarray:
    codes = np.vstack([np.eye(3), -np.ones(3)])[table["method"]]
    return np.column_stack([np.ones(len(table)), codes])


def test_a_balanced_design_gives_the_repeated_measures_anova(crossed):
    fit = fit_reml(
        crossed["y"].to_numpy(),
        _design(crossed),
        [crossed["rater"].to_numpy(), crossed["pair"].to_numpy()],
    )
    f, df, df_error, p = f_test(fit, np.eye(4)[1:])
    anova = AnovaRM(crossed, "y", "rater", within=["method"], aggregate_func="mean").fit()
    expected = anova.anova_table.iloc[0]
    assert f == pytest.approx(expected["F Value"], rel=1e-6)
    assert (df, df_error) == (expected["Num DF"], pytest.approx(expected["Den DF"], rel=1e-6))
    assert p == pytest.approx(expected["Pr > F"], rel=1e-5)


def test_an_unbalanced_design_gives_the_likelihood_and_variances_of_mixedlm(crossed):
    table = crossed.drop(index=crossed.index[::7]).assign(one=1)
    groups = [table["rater"].to_numpy(), table["pair"].factorize()[0]]
    fit = fit_reml(table["y"].to_numpy(), _design(table), groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a retry with another optimiser
        other = smf.mixedlm(
            "y ~ C(method, Sum)", table, groups="one", re_formula="0",
            vc_formula={"a_rater": "0 + C(rater)", "b_pair": "0 + C(pair)"},
        ).fit(reml=True)  # fmt: skip
    assert fit.log_likelihood >= other.llf - 1e-4
    assert fit.log_likelihood == pytest.approx(other.llf, abs=1e-2)
    np.testing.assert_allclose(fit.variances, other.vcomp, rtol=0.03)
    assert fit.residual == pytest.approx(other.scale, rel=0.02)
    np.testing.assert_allclose(fit.beta, other.fe_params, rtol=0.02, atol=0.01)


def test_the_fit_is_the_peak_of_the_likelihood_also_where_variances_are_zero():
    rng = np.random.default_rng(2)
    n = 60
    x = np.column_stack([np.ones(n), rng.normal(size=n)])
    groups = [rng.integers(0, 6, n), np.arange(n) % 5, np.arange(n) % 15]
    groups = [np.unique(group, return_inverse=True)[1] for group in groups]
    y = x @ [1, 2] + rng.normal(0, 0.9, 6)[groups[0]] + rng.normal(size=n)

    def log_likelihood(variances: np.ndarray) -> float:
        # With the n x n covariance matrix: Patterson and Thompson (1971).
        v = variances[-1] * np.eye(n)
        for group, variance in zip(groups, variances, strict=False):
            v += variance * (group[:, None] == group)
        xvx = x.T @ np.linalg.solve(v, x)
        rest = y - x @ np.linalg.solve(xvx, x.T @ np.linalg.solve(v, y))
        logs = np.linalg.slogdet(v)[1] + np.linalg.slogdet(xvx)[1]
        squares = rest @ np.linalg.solve(v, rest)
        return -(logs + squares + (n - 2) * np.log(2 * np.pi)) / 2

    fit = fit_reml(y, x, groups)
    peak = np.append(fit.variances, fit.residual)
    assert fit.converged and (peak[0] > 0) and (peak == 0).any()
    assert fit.log_likelihood == pytest.approx(log_likelihood(peak), abs=1e-8)
    for size in (1e-1, 1e-3, 1e-5):
        for way in np.vstack([np.eye(4), -np.eye(4)]):
            assert log_likelihood(np.maximum(peak + size * way, 0)) < fit.log_likelihood + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_variances_at_zero_do_not_keep_the_full_model_from_converging(seed):
    ratings = make_ratings(raters=8, methods=("copy", "warp"), per_type=3, seed=seed)
    ratings = ratings[
        ~ratings["source"].isin(["side2", "stylised2"]) & ratings["driving"].str.endswith("0")
    ]
    model = stats.mixed_model(ratings)
    assert not model.fallback and (model.variances["variance"] == 0).any()
    assert not any("Each source type has one source" in note for note in model.notes)


def test_a_paired_difference_has_its_t_test_and_degrees_of_freedom():
    rng = np.random.default_rng(1)
    rater, side = np.indices((12, 2)).reshape(2, -1)
    y = rng.normal(0, 1, 12)[rater] + rng.normal(0.5, 1, 24) * side
    fit = fit_reml(y, np.column_stack([np.ones(24), side]), [rater])
    gaps = y.reshape(12, 2) @ [-1, 1]
    estimate, error, df = contrast(fit, np.array([0.0, 1.0]))
    assert (estimate, df) == (pytest.approx(gaps.mean()), pytest.approx(11, rel=1e-4))
    assert error == pytest.approx(gaps.std(ddof=1) / np.sqrt(12), rel=1e-4)


def test_the_model_of_one_factor_is_the_repeated_measures_anova():
    ratings = make_ratings(types=("side",), raters=9, effects={"warp": 0.8})
    model = stats.mixed_model(ratings)
    rows = rated(ratings)[lambda rows: rows["criterion"] == stats.OVERALL]
    expected = AnovaRM(rows, "value", "rater", within=["method"]).fit().anova_table.iloc[0]
    row = model.table.iloc[0]
    assert (row["term"], row["df"], row["df_error"]) == ("method", 2, pytest.approx(16))
    assert row["f"] == pytest.approx(expected["F Value"], rel=1e-5)
    means = rows.groupby("method")["value"].mean()
    np.testing.assert_allclose(model.means["mean"], means)
    assert model.variances["share"].sum() == pytest.approx(1)


def test_the_full_model_tests_three_factors_and_their_interactions():
    model = stats.mixed_model(make_ratings(raters=10, per_type=2, effects={"warp": 0.9}))
    assert list(model.table["term"]) == [
        "source type", "driving type", "method", "source type x driving type",
        "source type x method", "driving type x method", "source type x driving type x method",
    ]  # fmt: skip
    tests = model.table.set_index("term")["p"]
    assert tests["method"] < 0.001 < 0.01 < tests["source type"]
    assert {"rater", "source", "driving", "clip"} <= set(model.variances["group"])
    assert model.notes == () and not model.fallback
    found = model.differences.set_index(["first", "second"]).loc[("fomm", "warp")]
    assert found["low"] < -0.9 < found["high"] and found["p_holm"] >= found["p"]


def test_one_source_a_type_is_said_to_limit_the_claim():
    model = stats.mixed_model(make_ratings())
    assert "source" not in set(model.variances["group"])
    assert "Each source type has one source" in model.notes[0]
    assert "Each condition has one clip" in model.notes[2]


def test_raters_tastes_are_not_taken_for_independent_ratings():
    # Raters differ in which method they like and methods do not differ: 36 ratings of each
    # method by a rater must not make the test sure of a difference.
    rng = np.random.default_rng(3)
    sure = 0
    for _ in range(20):
        liking = rng.normal(3, 1, (6, 2))

        def answer(rater, source_type, driving_type, method, criterion, liking=liking):
            opinion = rng.normal(liking[rater, int(method == "warp")], 0.3)
            return int(np.clip(np.rint(opinion), 1, 5))

        ratings = make_ratings(answer, raters=6, methods=("copy", "warp"), criteria=("jitter",))
        tests = stats.mixed_model(ratings, "jitter").table.set_index("term")
        sure += tests.loc["method", "p"] < 0.05
    assert sure <= 3


@pytest.mark.parametrize(("per_type", "fooled"), [(1, True), (3, False)])
def test_sources_that_differ_pass_for_types_only_where_a_type_has_one(per_type, fooled):
    # Sources differ, types do not. With one source a type nothing can tell, and a note says so.
    rng = np.random.default_rng(5)
    found, notes = 0, ""
    for _ in range(20):
        ratings = make_ratings(
            raters=8, methods=("warp",), criteria=("jitter",), per_type=per_type, clip_sd=0.1
        )
        liking = dict(zip(ratings["source"].unique(), rng.normal(0, 0.7, 99), strict=False))
        shifted = ratings["value"] + ratings["source"].map(liking)
        ratings = ratings.assign(value=shifted.round().clip(1, 5))
        model = stats.mixed_model(ratings, "jitter")
        found += model.table.set_index("term").loc["source type", "p"] < 0.05
        notes = " ".join(model.notes)
    assert (found >= 12) if fooled else (found <= 3)
    assert ("can't be told from that of the source" in notes) == fooled


def test_conditions_without_ratings_leave_out_the_terms_that_need_them():
    ratings = make_ratings()
    ratings = ratings[(ratings["method"] != "copy") | (ratings["source_type"] == "side")]
    model = stats.mixed_model(ratings)
    assert "leave out source type x method, source type x driving type x method" in model.notes[0]
    assert len(model.table) == 5 and np.isfinite(model.table["p"]).all()


@pytest.mark.parametrize(
    ("ratings", "words"),
    [
        (make_ratings(raters=1), "One rater"),
        (make_ratings(lambda *_: 3), "All ratings are equal"),
        (make_ratings(lambda r, *_: 1 + r % 5), "no error to test by"),
        (make_ratings(lambda r, s, d, m, c: 1 + len(s) % 3), "no error to test by"),
        (make_ratings(methods=("warp",), types=("side",)), "one condition only"),
        (make_ratings(raters=2).iloc[:0], "no ratings yet"),
    ],
)
def test_what_can_not_be_modelled_has_words(ratings, words):
    model = stats.mixed_model(ratings)
    assert words in model.notes[0]
    assert model.table.empty and model.means.empty and model.variances.empty


def test_a_model_that_does_not_converge_falls_back_and_says_so(monkeypatch):
    from studykit.stats import model as module

    def fit(y, x, groups):
        found = fit_reml(y, x, groups)
        return found if len(groups) < 3 else dataclasses.replace(found, converged=False)

    monkeypatch.setattr(module, "fit_reml", fit)
    model = stats.mixed_model(make_ratings(per_type=2, methods=("copy", "warp"), raters=5))
    assert model.formula.endswith("(1 | rater) + (1 | source:driving:method)")
    assert "did not converge" in model.fallback and model.fallback in model.notes
    # The types have two sources each, which are just not at random here.
    assert "The sources of a type are not at random in this model" in model.notes[0]
    assert not any("one source" in note or "one clip" in note for note in model.notes)
    # The clips of one method are the pairs of a source and a driving.
    model = stats.mixed_model(make_ratings(per_type=2, methods=("warp",), raters=5))
    assert model.formula.endswith("(1 | rater) + (1 | source:driving)")


def test_raters_whose_means_are_all_equal_have_no_variance():
    """A Latin square: nothing of the scores is the raters', which leaves REML no curvature."""
    number = {"copy": 0, "fomm": 1, "warp": 2}
    ratings = make_ratings(
        lambda r, s, d, m, c: (r + number[m]) % 3 + 1 + (m == "warp"),
        raters=6, types=("side",), criteria=("jitter",),
    )  # fmt: skip
    model = stats.mixed_model(ratings, "jitter")
    assert model.variances["variance"].tolist() == pytest.approx([0, 0.8])
    assert model.table.loc[0, ["f", "df", "df_error"]].tolist() == pytest.approx([2.5, 2, 15])


def test_an_unknown_criterion_is_refused():
    with pytest.raises(StudyError, match='did you mean "jitter"'):
        stats.mixed_model(make_ratings(raters=2), "jiter")

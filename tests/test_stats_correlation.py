"""Criteria beside each other, metrics beside ratings: known answers, refusals, no false alarms."""

import numpy as np
import pandas as pd
import pytest
from rating_tables import DATA, known, make_ratings, read_metrics, read_ratings

from studykit import stats
from studykit.metrics.catalogue import METRICS, PRIMARY
from studykit.stats.correlation import monotonic_fit
from studykit.study.wording import CRITERIA

MOTION = PRIMARY["motion"]


def _metric(ratings: pd.DataFrame, values, better: str = "higher", **columns) -> pd.DataFrame:
    cells = ratings["cell"].unique()
    base = {"cell": cells, "metric": MOTION, "value": values, "better": better, "extractor": ""}
    return pd.DataFrame(base | columns)


@pytest.fixture(scope="module")
def ratings() -> pd.DataFrame:
    return make_ratings(raters=5, clip_sd=1, per_type=2, types=("frontal", "side"),
                        criteria=("jitter", "structure"))  # fmt: skip


@pytest.fixture(scope="module")
def mean(ratings: pd.DataFrame) -> np.ndarray:
    return ratings.groupby("cell", sort=False)["value"].mean().to_numpy()


def test_one_metric_of_each_group_is_primary():
    assert {METRICS[name].group: name for name in PRIMARY.values()} == PRIMARY


def test_lower_is_better_turns_the_sign(ratings, mean):
    good = stats.correlate_metrics(ratings, _metric(ratings, mean)).table
    bad = stats.correlate_metrics(ratings, _metric(ratings, -mean, better="lower")).table
    assert good["r"].min() > 0.5
    np.testing.assert_allclose(good["r"], bad["r"])
    assert list(good["criterion"]) == ["structure", "jitter", stats.MEAN]


def test_what_sources_drivings_and_methods_add_is_no_correlation(ratings, mean):
    """A metric that only knows which source, driving and method it is says nothing of a clip."""
    clips = ratings.drop_duplicates("cell")
    known = sum(clips[name].map(mean_of).to_numpy() for name, mean_of in (
        (name, ratings.groupby(name)["value"].mean()) for name in ("source", "driving", "method")
    ))  # fmt: skip
    table = stats.correlate_metrics(ratings, _metric(ratings, known)).table
    assert table["words"].str.startswith("does not vary within").all()
    shifted = stats.correlate_metrics(ratings, _metric(ratings, mean + 3 * known)).table
    plain = stats.correlate_metrics(ratings, _metric(ratings, mean)).table
    np.testing.assert_allclose(shifted["r"], plain["r"])


def test_only_primary_metrics_are_corrected_and_claimed(ratings, mean):
    metrics = pd.concat([_metric(ratings, mean), _metric(ratings, mean, metric="sms")])
    table = stats.correlate_metrics(ratings, metrics).table.set_index(["metric", "criterion"])
    assert table["p_holm"].notna().sum() == 2  # and not of the mean over criteria
    assert table["p_holm"][MOTION].notna().sum() == 2
    found = stats.findings(ratings, metrics).table
    assert set(found[found["claim"] == "metric"]["subject"]) == {MOTION}


def test_a_study_may_name_its_own_primary_metrics(ratings, mean):
    metrics = pd.concat([_metric(ratings, mean), _metric(ratings, mean, metric="sms")])
    found = stats.analyse(ratings, metrics, primary=("sms",))
    table = found.findings.table
    assert set(table[table["claim"] == "metric"]["subject"]) == {"sms"}
    assert list(found.prediction.table["first"]) == ["sms"]
    assert "primary metrics (sms)" in found.metric_correlation.how


@pytest.mark.parametrize("per_type", [1, 2])
def test_metrics_of_other_faces_seldom_go_with_ratings(per_type):
    """Metric and score each depend on source, driving and source x method, and on no other."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        ratings = make_ratings(raters=2, per_type=per_type, criteria=("jitter",), seed=seed)
        clips = ratings.drop_duplicates("cell")
        units = (["source"], ["driving"], ["source", "method"], ["driving", "method"], ["cell"])
        parts = [clips.groupby(unit).ngroup().to_numpy() for unit in units]

        def effects(rng=rng, parts=parts):
            sizes = (1, 1, 1, 1, 0.3)
            return sum(sd * rng.normal(size=part.max() + 1)[part]
                       for sd, part in zip(sizes, parts, strict=True))  # fmt: skip

        score = dict(zip(clips["cell"], 3 + 0.3 * effects(), strict=True))
        rated = ratings.assign(value=ratings["cell"].map(score).clip(1, 5))
        table = stats.correlate_metrics(rated, _metric(ratings, effects())).table
        alarms += (table["p"] < 0.05).any()
    # Of 40 with 5 % each, 7 or more come in 1 of 250.
    assert alarms <= 6


def test_two_extractors_of_a_metric_are_two_rows(ratings, mean):
    metrics = pd.concat([_metric(ratings, mean, extractor=name) for name in ("dlib", "other")])
    table = stats.correlate_metrics(ratings, metrics).table
    assert list(table["metric"].unique()) == [f"{MOTION} (dlib)", f"{MOTION} (other)"]
    assert table["primary"].all()


@pytest.mark.parametrize("correlate", [stats.correlate_metrics, stats.predict_scores])
@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (lambda clips: clips.head(3), "3 clips: no correlation under 4"),
        (lambda clips: clips[clips["cell"].str.startswith("frontal")], "2 sources: nothing shows"),
        (lambda clips: clips.assign(value=1.0), ("does not vary", "the same for all clips")),
    ],
)  # fmt: skip
def test_a_metric_on_few_clips_or_without_variation_has_words(
    ratings, mean, correlate, kept, words
):
    table = correlate(ratings, kept(_metric(ratings, mean))).table
    assert table["words"].str.startswith(words).all() and table["p"].isna().all()


def test_a_cubic_is_used_where_it_is_monotonic_and_else_a_line():
    x = np.linspace(0, 2, 30)
    np.testing.assert_allclose(monotonic_fit(x, x**3)(x), x**3, atol=1e-9)
    bent = (x - 1) ** 2
    np.testing.assert_allclose(monotonic_fit(x, bent)(x), bent.mean(), atol=1e-9)


def test_the_mapping_is_that_of_r():
    """The clips' means by one method mapped to those by the other: see data/R/crossed.R."""
    of_r = known("crossed")["cubic"]
    clips = pd.read_csv(DATA / "crossed.csv").groupby(["source", "driving", "method"])["value"]
    p, q = clips.mean().unstack().to_numpy().T
    fitted = monotonic_fit(p, q)(p)
    assert np.sqrt(((fitted - q) ** 2).mean()) == pytest.approx(of_r["rmse"])
    assert np.corrcoef(fitted, q)[0, 1] == pytest.approx(of_r["plcc"])


@pytest.fixture(scope="module")
def metrics_of_r() -> pd.DataFrame:
    names = {name: PRIMARY[name] for name in ("motion", "identity")}
    return read_metrics().replace({"metric": names})


def _close(row: pd.Series, expected: dict) -> None:
    for name in set(expected) - {"coefficients"}:
        assert row[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("metric", ["motion", "identity"])
def test_metrics_go_with_criteria_as_in_r(metrics_of_r, metric):
    """Correlations of residuals, and a jackknife in plain loops: see data/R/correlation.R."""
    table = stats.correlate_metrics(read_ratings(), metrics_of_r).table
    table = table.set_index(["metric", "criterion"])
    for criterion, expected in known("correlation")["metric"][metric].items():
        _close(table.loc[PRIMARY[metric], criterion], expected)


def test_prediction_is_that_of_r(metrics_of_r):
    """One metric is mapped by a cubic, one by a line; their difference is tested."""
    table = stats.predict_scores(read_ratings(), metrics_of_r).table.set_index(["first", "second"])
    expected = known("correlation")["prediction"]
    assert [expected[name]["coefficients"] for name in ("motion", "identity")] == [4, 2]
    for name in ("motion", "identity"):
        _close(table.loc[PRIMARY[name], ""], expected[name])
    _close(table.loc[PRIMARY["motion"], PRIMARY["identity"]], expected["both"])


def test_criteria_go_together_within_raters_as_psych_transforms_them():
    row = stats.correlate_criteria(read_ratings()).table.iloc[0]
    found = row["r"], row["low"], row["high"]
    assert found == pytest.approx(known("correlation")["criteria"], rel=1e-9)


def test_prediction_is_reported_as_p1401_has_it(ratings, mean):
    """The mapping hides scale and sign; error, outliers and correlation are those of the fit."""
    noise = np.random.default_rng(0).normal(0, 0.4, len(mean))
    metrics = pd.concat([
        _metric(ratings, -10 * mean, better="lower"),
        _metric(ratings, mean + noise, metric=PRIMARY["identity"]),
    ])  # fmt: skip
    table = stats.predict_scores(ratings, metrics).table.set_index(["first", "second"])
    exact = table.loc[MOTION, ""]
    assert exact["plcc"] == pytest.approx(0.999) and exact["rmse"] == pytest.approx(0, abs=1e-9)
    assert exact["outlier_ratio"] == 0
    noisy = table.loc[PRIMARY["identity"], ""]
    mapping = monotonic_fit(mean + noise, mean)
    error = mapping(mean + noise) - mean
    freedom = len(mean) - len(mapping.coef)
    assert noisy["rmse"] == pytest.approx(np.sqrt((error**2).sum() / freedom))
    assert noisy["low"] < noisy["plcc"] == pytest.approx(np.corrcoef(mean + error, mean)[0, 1])
    assert table.loc[MOTION, PRIMARY["identity"]]["p_holm"] < 0.05


def test_criteria_are_correlated_within_raters():
    """Raters who are mild on everything make no two criteria alike."""
    rng = np.random.default_rng(0)
    levels = rng.integers(1, 4, 12)
    ratings = make_ratings(lambda r, *_: levels[r] + rng.integers(0, 3), raters=12)
    table = stats.correlate_criteria(ratings).table
    assert len(table) == 6 and set(table["first"]) < set(CRITERIA)
    assert (table["low"] < 0).sum() >= 5 and (table["high"] > 0).sum() >= 5
    alike = make_ratings(lambda r, s, d, m, c: 1 + len(s + d + m) % 5, raters=3)
    assert (stats.correlate_criteria(alike).table["r"] > 0.99).all()


def test_one_rater_gives_no_interval_of_criteria():
    table = stats.correlate_criteria(make_ratings(raters=1)).table
    assert table["words"].all() and table["r"].isna().all()

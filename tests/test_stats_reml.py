"""Variance components by REML: against MixedLM, and at the peak of the likelihood."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from studykit.stats.reml import fit_reml


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

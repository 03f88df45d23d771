"""Linear mixed models with crossed random intercepts, fitted by restricted maximum likelihood.

statsmodels' MixedLM takes crossed effects as one huge group: with the by-rater effects that a
sound test needs it runs for half a minute and does not converge. Here everything is computed
from cross products of the size of the random effects (Bates et al. 2015, section 3), with exact
gradients, and contrasts get Satterthwaite's degrees of freedom (Kuznetsova et al. 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes
    ----------
    beta : (p,) float array
        Fixed effects.
    covariance : (p, p) float array
        Of the fixed effects.
    variances : (g,) float array
        Of the random effects, in the order that they were given; >= 0.
    residual : float
        Residual variance.
    log_likelihood : float
        Restricted.
    slopes : (k, p, p) float array
        Derivatives of ``covariance`` by the k variances that are above zero, the residual's last.
    variance_covariance : (k, k) float array
        Of the estimates of these variances, from the expected information.
    converged : bool
    """

    beta: np.ndarray
    covariance: np.ndarray
    variances: np.ndarray
    residual: float
    log_likelihood: float
    slopes: np.ndarray
    variance_covariance: np.ndarray
    converged: bool


def fit_reml(y: np.ndarray, x: np.ndarray, groups: Sequence[np.ndarray]) -> Fit:
    """Fit y = x beta + sum over g of u_g[groups[g]] + e by REML.

    Parameters
    ----------
    y : (n,) float array
    x : (n, p) float array
        Fixed effects, of full column rank, p < n.
    groups : sequence of (n,) int arrays
        The level of each random effect in each row, from 0 without gaps.

    Returns
    -------
    Fit

    References
    ----------
    Bates, D., Maechler, M., Bolker, B., Walker, S. (2015). Fitting linear mixed-effects models
    using lme4. Journal of Statistical Software 67(1), section 3.
    """
    from scipy.optimize import minimize

    data = _CrossProducts.of(y, x, groups)
    if not groups:
        return _fit(data, np.zeros(0), converged=True)

    def deviance(ratios: np.ndarray) -> tuple[float, np.ndarray]:
        state = _State.at(data, ratios)
        trace = data.sum_by_group(np.diag(state.zpz))
        return state.deviance, trace - data.sum_by_group(state.zpy**2) / state.residual

    found = minimize(
        deviance,
        np.full(len(groups), 0.1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, 1e4)] * len(groups),
        options={"ftol": 1e-13, "gtol": 1e-5, "maxiter": 300},
    )
    return _fit(data, found.x, converged=bool(found.success))


def contrast(fit: Fit, weights: np.ndarray) -> tuple[float, float, float]:
    """Return the estimate of weights @ beta, its standard error and its degrees of freedom.

    Satterthwaite: df = 2 v^2 / Var(v), where v is the squared standard error and Var(v) follows
    from the estimates of the variances by the delta method (Kuznetsova et al. 2017, eq. 3).

    Parameters
    ----------
    weights : (p,) float array

    References
    ----------
    Kuznetsova, A., Brockhoff, P. B., Christensen, R. H. B. (2017). lmerTest package: tests in
    linear mixed effects models. Journal of Statistical Software 82(13).
    """
    variance = weights @ fit.covariance @ weights
    gradient = np.einsum("i,kij,j->k", weights, fit.slopes, weights)
    spread = gradient @ fit.variance_covariance @ gradient
    return float(weights @ fit.beta), float(np.sqrt(variance)), float(2 * variance**2 / spread)


def f_test(fit: Fit, weights: np.ndarray) -> tuple[float, int, float, float]:
    """Wald's F for weights @ beta = 0: F, its two degrees of freedom, p.

    The denominator's follow Fai and Cornelius (1996), as in lmerTest: the contrasts are turned
    into independent ones, whose Satterthwaite degrees of freedom are joined by the mean of F.

    Parameters
    ----------
    weights : (k, p) float array
        k independent contrasts.
    """
    from scipy.stats import f

    turned = np.linalg.eigh(weights @ fit.covariance @ weights.T).eigenvectors
    parts = [contrast(fit, row) for row in turned.T @ weights]
    k = len(parts)
    value = sum((estimate / error) ** 2 for estimate, error, _ in parts) / k
    freedom = np.array([df for _, _, df in parts])
    if np.ptp(freedom) < 1e-6 * freedom.mean():
        error_df = float(freedom.mean())
    elif (freedom <= 2).any():
        error_df = 2.0
    else:
        mean = (freedom / (freedom - 2)).sum()
        error_df = float(2 * mean / (mean - k))
    return float(value), k, error_df, float(f.sf(value, k, error_df))


@dataclass(frozen=True)
class _CrossProducts:
    """What the likelihood needs of the data; ``starts`` is where each random effect begins."""

    xx: np.ndarray
    xy: np.ndarray
    yy: float
    zz: np.ndarray
    zx: np.ndarray
    zy: np.ndarray
    starts: np.ndarray
    n: int

    @classmethod
    def of(cls, y: np.ndarray, x: np.ndarray, groups: Sequence[np.ndarray]) -> "_CrossProducts":
        from scipy.sparse import csr_array, hstack

        rows = np.arange(len(y))
        blocks = [csr_array((np.ones(len(y)), (rows, group))) for group in groups]
        z = hstack([csr_array((len(y), 0)), *blocks], format="csr")
        sizes = [block.shape[1] for block in blocks]
        return cls(
            xx=x.T @ x,
            xy=x.T @ y,
            yy=float(y @ y),
            zz=(z.T @ z).toarray(),
            zx=z.T @ x,
            zy=z.T @ y,
            starts=np.cumsum([0, *sizes[:-1]]) if sizes else np.zeros(0, int),
            n=len(y),
        )

    def sum_by_group(self, values: np.ndarray) -> np.ndarray:
        """Add up values of the levels, along the first axis, over each random effect."""
        return np.add.reduceat(values, self.starts, axis=0)

    def per_level(self, values: np.ndarray) -> np.ndarray:
        """Repeat a value of each random effect for all its levels."""
        return np.repeat(values, np.diff([*self.starts, len(self.zy)]))


@dataclass(frozen=True)
class _State:
    """The model solved at given variances, relative to the residual's.

    With V = I + Z diag(ratios) Z' and P the projection V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1,
    ``zpz`` is Z'PZ, ``zpy`` Z'Py, ``zvx`` Z'V^-1 X and ``covariance`` (X'V^-1 X)^-1.
    """

    beta: np.ndarray
    covariance: np.ndarray
    residual: float
    deviance: float
    zpz: np.ndarray
    zpy: np.ndarray
    zvx: np.ndarray

    @classmethod
    def at(cls, data: _CrossProducts, ratios: np.ndarray) -> "_State":
        from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

        n, p = data.n, len(data.xy)
        scale = np.sqrt(data.per_level(ratios)) if len(ratios) else np.zeros(0)
        inner = scale[:, None] * data.zz * scale
        inner[np.diag_indices_from(inner)] += 1
        lower = cholesky(inner, lower=True)

        def whitened(cross: np.ndarray) -> np.ndarray:
            scaled = (cross.T * scale).T
            return solve_triangular(lower, scaled, lower=True, check_finite=False)

        white_z, white_x, white_y = whitened(data.zz), whitened(data.zx), whitened(data.zy)
        xvx = data.xx - white_x.T @ white_x
        xvy = data.xy - white_x.T @ white_y
        factor = cho_factor(xvx, lower=True)
        beta = cho_solve(factor, xvy)
        zvx = data.zx - white_z.T @ white_x
        half = solve_triangular(np.tril(factor[0]), zvx.T, lower=True)
        residual = float(data.yy - white_y @ white_y - xvy @ beta) / (n - p)
        logs = np.log(np.diag(lower)).sum() + np.log(np.diag(factor[0])).sum()
        return cls(
            beta=beta,
            covariance=cho_solve(factor, np.eye(p)),
            residual=residual,
            deviance=2 * logs + (n - p) * (1 + np.log(2 * np.pi * residual)),
            zpz=data.zz - white_z.T @ white_z - half.T @ half,
            zpy=data.zy - white_z.T @ white_y - zvx @ beta,
            zvx=zvx,
        )


def _fit(data: _CrossProducts, ratios: np.ndarray, *, converged: bool) -> Fit:
    # A variance at zero stays there: it is no longer a parameter.
    ratios = np.where(ratios < 1e-6, 0.0, ratios)
    state = _State.at(data, ratios)
    above = ratios > 0
    df = data.n - len(state.beta)
    # Sums over the levels of two random effects: tr(P Zg Zg' P Zh Zh').
    information = data.sum_by_group(data.sum_by_group(state.zpz**2).T) if len(ratios) else 0
    trace = data.sum_by_group(np.diag(state.zpz)) if len(ratios) else np.zeros(0)
    k = int(above.sum())
    full = np.zeros((k + 1, k + 1))
    if k:
        full[:k, :k] = information[np.ix_(above, above)]
    ratio, tr = ratios[above], trace[above]
    # P V P = P gives what belongs to the residual: its share is what the others leave.
    full[:k, k] = full[k, :k] = tr - full[:k, :k] @ ratio
    full[k, k] = df - tr @ ratio - full[k, :k] @ ratio
    parts = np.split(state.zvx, data.starts[1:]) if len(ratios) else []
    slopes = [
        state.covariance @ part.T @ part @ state.covariance
        for part, kept in zip(parts, above, strict=True)
        if kept
    ]
    rest = state.covariance - sum(r * s for r, s in zip(ratio, slopes, strict=True))
    return Fit(
        beta=state.beta,
        covariance=state.covariance * state.residual,
        variances=ratios * state.residual,
        residual=state.residual,
        log_likelihood=-state.deviance / 2,
        slopes=np.array([*slopes, rest]),
        variance_covariance=2 * state.residual**2 * np.linalg.pinv(full),
        converged=converged,
    )

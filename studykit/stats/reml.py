"""Linear mixed models with crossed random intercepts, fitted by restricted maximum likelihood.

statsmodels' MixedLM takes crossed effects as one huge group: with the by-rater effects that a
sound test needs it runs for half a minute and does not converge. Here everything is computed
from cross products of the size of the random effects (Bates et al. 2015, section 3), in some ten
steps of average information (Gilmour et al. 1995), by NumPy's linear algebra alone: SciPy's has
threads of its own, and on a busy machine the two kinds wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

_STEPS_MOST = 100
_GAIN_LEAST = 1e-9  # of the deviance: the last step is then far below a standard error
_RATIO_MOST = 1e4  # of a variance to the residual's, which may be zero


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
    variance_covariance : (k, k) float array
        Of the variances' estimates, those above zero and the residual's last, from the expected
        information.
    converged : bool
    """

    beta: np.ndarray
    covariance: np.ndarray
    variances: np.ndarray
    residual: float
    log_likelihood: float
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

    Gilmour, A. R., Thompson, R., Cullis, B. R. (1995). Average information REML: an efficient
    algorithm for variance parameter estimation in linear mixed models. Biometrics 51, 1440-1450.
    """
    data = _CrossProducts.of(y, x, groups)
    ratios = np.full(len(groups), 0.1)
    state, converged = _State.at(data, ratios), not groups
    for _ in range(_STEPS_MOST):
        if converged:
            break
        step, gain = _step(data, state, ratios)
        converged = gain < _GAIN_LEAST
        size = 1.0
        ahead = _State.at(data, ratios + step)
        while not (converged or ahead.deviance <= state.deviance or size < 1e-3):
            size /= 2
            ahead = _State.at(data, ratios + size * step)
        ratios, state = ratios + size * step, ahead
    return _fit(data, ratios, converged=converged)


def _step(data: "_CrossProducts", state: "_State", ratios: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the average-information step that keeps the ratios in bounds, and twice its gain.

    It minimises the deviance's quadratic model within the bounds, so that a variance whose best
    value is zero comes to be exactly zero, and can leave it again. The model's curvature is the
    mean of observed and expected information, which needs squares of vectors alone and is never
    negative (Gilmour et al. 1995, with the residual variance fitted along).
    """
    explained = data.sum_by_group(state.zpy**2) / state.residual  # y'P Vg P y
    gradient = data.sum_by_group(np.diag(state.zpz)) - explained
    products = state.zpy[:, None] * state.zpz * state.zpy
    information = data.sum_by_group(data.sum_by_group(products).T) / state.residual
    curvature = information - np.outer(explained, explained) / (data.n - len(state.beta))
    values, vectors = np.linalg.eigh(curvature)
    # Where raters' means are all equal there is no curvature: the slope alone leads to zero.
    root = np.sqrt(np.maximum(values, max(1e-10 * values[-1], 1e-12)))
    target = root * (vectors.T @ ratios) - (vectors.T @ gradient) / root
    bounded = {"bounds": (0, _RATIO_MOST), "method": "bvls"}
    best = scipy.optimize.lsq_linear(root[:, None] * vectors.T, target, **bounded).x
    step = best - ratios
    return step, float(-gradient @ step)


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
        csr_array = scipy.sparse.csr_array
        rows = np.arange(len(y))
        blocks = [csr_array((np.ones(len(y)), (rows, group))) for group in groups]
        z = scipy.sparse.hstack([csr_array((len(y), 0)), *blocks], format="csr")
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
    ``zpz`` is Z'PZ, ``zpy`` Z'Py and ``covariance`` (X'V^-1 X)^-1.
    """

    beta: np.ndarray
    covariance: np.ndarray
    residual: float
    deviance: float
    zpz: np.ndarray
    zpy: np.ndarray

    @classmethod
    def at(cls, data: _CrossProducts, ratios: np.ndarray) -> "_State":
        n, p, q = data.n, len(data.xy), len(data.zy)
        variances = data.per_level(ratios)
        above = variances > 0  # the others leave V as it is
        scale = np.sqrt(variances[above])[:, None]
        cross = np.column_stack([data.zz, data.zx, data.zy])
        zz, zx, zy = data.zz[:, above], data.zx[above], data.zy[above]
        # Woodbury's identity takes V^-1 from the rows to the random effects.
        inner = np.eye(len(scale)) + scale * zz[above] * scale.T
        solved = scale * np.linalg.solve(inner, scale * cross[above])
        zvz, zvx, zvy = np.split(cross - zz @ solved, [q, q + p], axis=1)
        xvx = data.xx - zx.T @ solved[:, q:-1]
        xvy = data.xy - zx.T @ solved[:, -1]
        covariance = np.linalg.inv(xvx)
        beta = covariance @ xvy
        residual = float(data.yy - zy @ solved[:, -1] - xvy @ beta) / (n - p)
        factors = np.linalg.cholesky(inner), np.linalg.cholesky(xvx)
        logs = 2 * sum(np.log(np.diag(factor)).sum() for factor in factors)
        return cls(
            beta=beta,
            covariance=covariance,
            residual=residual,
            deviance=float(logs + (n - p) * (1 + np.log(2 * np.pi * residual))),
            zpz=zvz - zvx @ covariance @ zvx.T,
            zpy=zvy[:, 0] - zvx @ beta,
        )


def _fit(data: _CrossProducts, ratios: np.ndarray, *, converged: bool) -> Fit:
    # A variance at zero stays there: it is no longer a parameter.
    ratios = np.where(ratios < 1e-6, 0.0, ratios)
    state = _State.at(data, ratios)
    above = ratios > 0
    df = data.n - len(state.beta)
    traces = data.sum_by_group(np.diag(state.zpz))
    # Sums over the levels of two random effects: tr(P Zg Zg' P Zh Zh').
    information = data.sum_by_group(data.sum_by_group(state.zpz**2).T)
    k = int(above.sum())
    full = np.zeros((k + 1, k + 1))
    full[:k, :k] = information[np.ix_(above, above)]
    ratio, tr = ratios[above], traces[above]
    # P V P = P gives what belongs to the residual: its share is what the others leave.
    full[:k, k] = full[k, :k] = tr - full[:k, :k] @ ratio
    full[k, k] = df - tr @ ratio - full[k, :k] @ ratio
    return Fit(
        beta=state.beta,
        covariance=state.covariance * state.residual,
        variances=ratios * state.residual,
        residual=state.residual,
        log_likelihood=-state.deviance / 2,
        variance_covariance=2 * state.residual**2 * np.linalg.pinv(full),
        converged=converged,
    )

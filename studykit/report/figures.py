"""Drawn pictures of scores, metrics and motion, each as PNG and SVG under ``figures/``.

How they look stands in print.mplstyle. A picture that uses simulated ratings says so in itself,
since pictures travel without the page that they stood on.
"""

import contextlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studykit import files

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, TEXT = 3.4, 7.0  # inches: one column of a paper, and both
PANELS = 12

_STYLE = Path(__file__).with_name("print.mplstyle")
_INK, _PALE, _GRID, _ALARM = "#1b1f24", "#5b6570", "#dfe3e8", "#a3261c"
_MARKERS = "oDs^vP*X<>"
_SCORES = "cividis"
_SIMULATED = "Simulated ratings: no person rated these clips"


@dataclass(frozen=True)
class Look:
    """What tells the methods of a study apart in every picture: colour and, in grey, marker."""

    colours: Mapping[str, str]
    markers: Mapping[str, str]

    @classmethod
    def of(cls, methods: Sequence[str]) -> "Look":
        """Give each method its own, in the study's order."""
        import matplotlib

        cycle = matplotlib.rc_params_from_file(_STYLE, use_default_template=False)
        colours = [entry["color"] for entry in cycle["axes.prop_cycle"]]
        colours = [colour if colour.startswith("#") else f"#{colour}" for colour in colours]
        return cls(
            {name: colours[i % len(colours)] for i, name in enumerate(methods)},
            {name: _MARKERS[i % len(_MARKERS)] for i, name in enumerate(methods)},
        )


def heat_maps(
    path: Path,
    scores: "pandas.DataFrame",
    *,
    methods: Sequence[str],
    types: tuple[Sequence[str], Sequence[str]],
    scale: int,
    simulated: bool,
) -> Path:
    """Draw source type x driving type, a map a method: mean, interval and n in each cell.

    Parameters
    ----------
    path : Path
        The PNG file; an SVG file stands beside it.
    scores : DataFrame
        One criterion of ``stats.mean_scores`` by condition.
    methods : sequence of str
    types : pair of sequences of str
        The source types and the driving types, in order.
    scale : int
        Steps of the scale: its colours run from 1 to ``scale``.
    simulated : bool
        Whether the ratings are; the picture then says so.

    Returns
    -------
    Path
        That of the PNG file.
    """
    sources, drivings = types
    across = min(3, len(methods))
    down = -(-len(methods) // across)
    width = 0.75 + across * (0.35 + 0.62 * len(drivings))
    height = 0.75 + down * (0.5 + 0.58 * len(sources))
    found = scores.set_index(["method", "source_type", "driving_type"])
    with _drawing(path, max(width, COLUMN), height, simulated) as figure:
        panels = figure.subplots(down, across, squeeze=False)
        image = None
        for panel, method in zip(panels.flat, methods, strict=False):
            values = np.full((len(sources), len(drivings)), np.nan)
            for row, source in enumerate(sources):
                for column, driving in enumerate(drivings):
                    if (method, source, driving) in found.index:
                        line = found.loc[(method, source, driving)]
                        values[row, column] = line["mean"]
                        _write_score(panel, column, row, line, scale)
                    else:
                        panel.text(column, row, "no rating", ha="center", va="center",
                                   size=6, color=_PALE)  # fmt: skip
            image = panel.imshow(values, cmap=_SCORES, vmin=1, vmax=scale, aspect="auto")
            panel.set_title(_shortened(method, 24))
            panel.set_xticks(range(len(drivings)), drivings)
            panel.set_yticks(range(len(sources)), sources, rotation=90, va="center")
            panel.set_xlabel("driving")
            panel.set_ylabel("source")
            panel.tick_params(length=0)
            panel.spines[:].set_visible(False)
        for panel in panels.flat[len(methods) :]:
            panel.set_visible(False)
        bar = figure.colorbar(image, ax=panels, shrink=0.8, aspect=28, pad=0.02)
        bar.set_label("mean score")
        bar.set_ticks(range(1, scale + 1))
        bar.outline.set_visible(False)
    return path


def criteria_by_method(
    path: Path,
    scores: "pandas.DataFrame",
    *,
    methods: Sequence[str],
    criteria: Sequence[str],
    scale: int,
    simulated: bool,
) -> Path:
    """Draw the score of every method on every criterion, over all conditions, with intervals."""
    look = Look.of(methods)
    height = 0.75 + len(criteria) * max(0.32, 0.13 * (len(methods) + 1))
    with _drawing(path, COLUMN, height, simulated) as figure:
        panel = figure.subplots()
        _dots(panel, scores, "criterion", criteria, methods, look)
        panel.set_xlabel("mean score, 95 % interval")
        _score_axis(panel, scale)
        _method_legend(figure, methods, look)
    return path


def criteria_by_condition(
    path: Path,
    scores: "pandas.DataFrame",
    *,
    methods: Sequence[str],
    criteria: Sequence[str],
    types: tuple[Sequence[str], Sequence[str]],
    scale: int,
    simulated: bool,
) -> Path:
    """Draw the scores of all conditions, one panel a criterion, a line a pair of types."""
    look = Look.of(methods)
    rows = [f"{source} × {driving}" for source in types[0] for driving in types[1]]
    scores = scores.assign(pair=scores["source_type"] + " × " + scores["driving_type"])
    height = 0.9 + len(rows) * max(0.2, 0.085 * (len(methods) + 1))
    with _drawing(path, TEXT, height, simulated) as figure:
        panels = figure.subplots(1, len(criteria), sharey=True, squeeze=False)[0]
        for panel, criterion in zip(panels, criteria, strict=True):
            here = scores[scores["criterion"] == criterion]
            _dots(panel, here, "pair", rows, methods, look)
            panel.set_title(criterion)
            panel.set_xlabel("mean score")
            _score_axis(panel, scale)
        panels[0].set_ylabel("source × driving")
        _method_legend(figure, methods, look)
    return path


def methods_by_condition(
    path: Path,
    scores: "pandas.DataFrame",
    *,
    methods: Sequence[str],
    types: tuple[Sequence[str], Sequence[str]],
    scale: int,
    simulated: bool,
) -> Path:
    """Draw how each method's score goes over driving types, one panel a source type.

    ``scores`` is one criterion of ``stats.mean_scores`` by condition. Lines that run side by side
    show no interaction.
    """
    sources, drivings = types
    look = Look.of(methods)
    with _drawing(path, TEXT, 2.6, simulated) as figure:
        panels = figure.subplots(1, len(sources), sharey=True, squeeze=False)[0]
        for panel, source in zip(panels, sources, strict=True):
            for number, method in enumerate(methods):
                here = scores[(scores["source_type"] == source) & (scores["method"] == method)]
                here = here.set_index("driving_type").reindex(drivings)
                offset = 0.07 * (number - (len(methods) - 1) / 2)
                at = np.arange(len(drivings)) + offset
                panel.errorbar(at, here["mean"], yerr=_reach(here), color=look.colours[method],
                               marker=look.markers[method], capsize=0, elinewidth=0.9)  # fmt: skip
            panel.set_title(f"{source} sources")
            panel.set_xticks(range(len(drivings)), drivings)
            panel.set_xlim(-0.4, len(drivings) - 0.6)
            panel.set_ylim(0.9, scale + 0.1)
            panel.set_yticks(range(1, scale + 1))
            panel.grid(axis="y")
            panel.set_xlabel("driving")
        panels[0].set_ylabel("mean score, 95 % interval")
        _method_legend(figure, methods, look)
    return path


def metrics_and_ratings(
    path: Path,
    clips: "pandas.DataFrame",
    correlations: "pandas.DataFrame",
    *,
    labels: Mapping[str, str],
    methods: Sequence[str],
    scale: int,
    simulated: bool,
) -> Path:
    """Draw each metric against the clips' mean score, with its rank correlation.

    Parameters
    ----------
    clips : DataFrame
        metric, value, score and method, one row a clip and metric.
    correlations : DataFrame
        One criterion of ``stats.correlate_metrics``: metric, rho, low, high, n_clips, words. The
        order of its rows is that of the panels, of which there are at most ``PANELS``.
    labels : mapping of str
        A metric's name with its unit, as an axis is labelled.
    """
    look = Look.of(methods)
    shown = correlations.head(PANELS)
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    with _drawing(path, TEXT * max(across, 2) / 4, 0.6 + 1.55 * down, simulated) as figure:
        panels = figure.subplots(down, across, sharey=True, squeeze=False)
        for panel, line in zip(panels.flat, shown.itertuples(), strict=False):
            here = clips[clips["metric"] == line.metric]
            for method in methods:
                its = here[here["method"] == method]
                panel.plot(its["value"], its["score"], look.markers[method], markersize=3,
                           color=look.colours[method], alpha=0.75, markeredgewidth=0)  # fmt: skip
            panel.set_title(_rho(line), weight="normal", size=7)
            panel.set_xlabel(_wrapped(labels.get(line.metric, line.metric), 26), size=7)
            panel.set_ylim(0.9, scale + 0.1)
            panel.set_yticks(range(1, scale + 1))
            panel.locator_params(axis="x", nbins=4)
            panel.grid()
        for panel in panels.flat[len(shown) :]:
            panel.set_visible(False)
        figure.supylabel("mean score of the clip", size=8)
        _method_legend(figure, methods, look)
    return path


def agreement(
    path: Path,
    agreements: "pandas.DataFrame",
    raters: "pandas.DataFrame",
    *,
    threshold: float | None,
    simulated: bool,
) -> Path:
    """Draw agreement by criterion, and each rater's correlation with all others.

    Parameters
    ----------
    agreements : DataFrame
        ``stats.agreement``: criterion, alpha, alpha_low, alpha_high.
    raters : DataFrame
        rater, figure (correlation with the mean of the others) and excluded.
    threshold : float or None
        Below it a rater is excluded.
    """
    known = agreements.dropna(subset=["alpha"])
    with _drawing(path, TEXT, 2.3, simulated) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        at = np.arange(len(known))[::-1]
        reach = _reach(known, "alpha", "alpha_low", "alpha_high")
        left.errorbar(known["alpha"], at, xerr=reach, fmt="o", color="#0072B2")
        left.set_yticks(at, known["criterion"])
        left.set_ylim(-0.6, len(known) - 0.4)
        left.set_xlim(min(0, np.nanmin([*known["alpha_low"], 0]) - 0.05), 1)
        left.set_xlabel("Krippendorff's alpha (ordinal), 95 % interval")
        left.set_title("Agreement among raters")
        left.grid(axis="x")
        ranked = raters.dropna(subset=["figure"]).sort_values("figure", ascending=False)
        place = np.arange(1, len(ranked) + 1)
        out = ranked["excluded"].to_numpy(bool)
        right.plot(place[~out], ranked["figure"][~out], "o", color="#0072B2", label="kept")
        right.plot(place[out], ranked["figure"][out], "X", color="#D55E00", label="excluded")
        if threshold is not None:
            right.axhline(threshold, color=_PALE, linewidth=0.7, linestyle="--")
        right.set_ylim(min(-0.05, *(ranked["figure"] - 0.05)) if len(ranked) else -0.05, 1)
        right.set_xlabel("raters, by agreement")
        right.set_ylabel("correlation with\nthe other raters")
        right.set_title("Each rater beside all others")
        right.locator_params(axis="x", integer=True)
        right.grid(axis="y")
        if out.any():
            right.legend(loc="lower left")
    return path


def motion_over_time(
    path: Path, curves: Mapping[str, np.ndarray], *, worst: int | None, colour: str = "#D55E00"
) -> Path:
    """Draw one clip's landmarks at five moments and its motion over time, the driving beside it.

    Parameters
    ----------
    curves : mapping of str to array
        As ``metrics.curves`` returns them.
    worst : int or None
        The frame to be marked.
    """
    rate = float(curves.get("frame_rate", 25.0))
    rows = [row for row in _MOTION if row[1] in curves and np.isfinite(curves[row[1]]).any()]
    landmarks = curves.get("landmarks")
    faces = landmarks is not None and np.isfinite(landmarks).any()
    across = 2
    down = max(1, -(-len(rows) // across))
    with _drawing(path, TEXT, 1.5 * bool(faces) + 1.2 * down + 0.4, False) as figure:
        top, bottom = (
            figure.subfigures(2, 1, height_ratios=(1.35, 1.15 * down)) if faces else (None, figure)
        )
        if faces:
            _draw_faces(top, curves, rate, worst, colour)
        panels = bottom.subplots(down, across, sharex=True, squeeze=False)
        for panel, (title, name, unit) in zip(panels.flat, rows, strict=False):
            time = np.arange(len(curves[name])) / rate
            driving = curves.get(f"driving_{name}")
            if driving is not None:
                panel.plot(np.arange(len(driving)) / rate, driving, color=_PALE, linewidth=1,
                           linestyle=(0, (4, 1.5)), label="driving")  # fmt: skip
            panel.plot(time, curves[name], color=colour, label="clip")
            if worst is not None:
                panel.axvline(worst / rate, color=_INK, linewidth=0.6, linestyle=":")
            panel.set_title(title, size=7.5)
            panel.set_ylabel(unit, size=7)
            panel.locator_params(axis="y", nbins=4)
            panel.grid(axis="y")
        for panel in panels.flat[len(rows) :]:
            panel.set_visible(False)
        for panel in panels.flat[max(0, len(rows) - across) : len(rows)]:
            panel.set_xlabel("seconds")
            panel.tick_params(labelbottom=True)
        handles, names = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
    return path


def compared_scores(
    path: Path,
    scores: "pandas.DataFrame",
    *,
    conditions: Sequence[str],
    names: tuple[str, str],
    scale: int,
    simulated: bool,
) -> Path:
    """Draw the scores of the same conditions in two studies, one below the other.

    ``scores`` has the columns study, condition, mean, low and high.
    """
    look = Look.of(names)
    with _drawing(path, TEXT * 0.75, 0.9 + 0.24 * len(conditions), simulated) as figure:
        panel = figure.subplots()
        _dots(panel, scores.assign(method=scores["study"]), "condition", conditions, names, look)
        panel.set_xlabel("mean score, 95 % interval")
        _score_axis(panel, scale)
        _method_legend(figure, names, look)
    return path


_MOTION = (
    ("turn of the head (yaw)", "yaw", "degrees"),
    ("nod (pitch)", "pitch", "degrees"),
    ("tilt (roll)", "roll", "degrees"),
    ("mouth opening", "mouth_opening", "ratio"),
    ("eye opening", "eye_opening", "ratio"),
    ("flow-warping error", "flow_warping_error", "1e-3"),
)

# The lines of a face among its 68 landmarks (iBUG order): where each begins and ends, and whether
# it is closed.
_FACE_LINES = (
    *((0, 17, False), (17, 22, False), (22, 27, False), (27, 31, False), (31, 36, False)),
    *((36, 42, True), (42, 48, True), (48, 60, True), (60, 68, True)),
)


@contextlib.contextmanager
def _drawing(path: Path, width: float, height: float, simulated: bool) -> "Iterator[Figure]":
    """Give a figure of the report's style; at the end it is written as PNG and SVG."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(str(_STYLE)):
        figure = Figure(figsize=(width, height + 0.2 * simulated))
        FigureCanvasAgg(figure)
        yield figure
        if simulated:
            _stamp(figure)
        for suffix, metadata in ((".svg", {"Date": None}), (".png", None)):
            with files.whole(path.with_suffix(suffix)) as part:
                figure.savefig(part, metadata=metadata)


def _stamp(figure: "Figure") -> None:
    figure.suptitle(_SIMULATED, size=7.5, weight="bold", color=_ALARM)
    width, height = figure.get_size_inches()
    figure.text(0.5, 0.48, "SIMULATED", size=min(width * 9, height * 14), weight="bold",
                color=_ALARM, alpha=0.13, rotation=18, ha="center", va="center",
                zorder=1000)  # fmt: skip


def _write_score(panel: "Axes", column: int, row: int, line: Any, scale: int) -> None:
    # cividis is dark in its lower half
    ink = "white" if (line["mean"] - 1) / max(scale - 1, 1) < 0.52 else _INK
    panel.text(column, row - 0.2, f"{line['mean']:.2f}", ha="center", va="center", size=9,
               weight="bold", color=ink)  # fmt: skip
    interval = f"{line['low']:.1f} to {line['high']:.1f}" if np.isfinite(line["low"]) else "–"
    panel.text(column, row + 0.09, interval, ha="center", va="center", size=6.2, color=ink)
    panel.text(column, row + 0.32, f"n = {line['n_raters']}", ha="center", va="center",
               size=6.2, color=ink)  # fmt: skip


def _dots(
    panel: "Axes",
    scores: "pandas.DataFrame",
    by: str,
    rows: Sequence[str],
    methods: Sequence[str],
    look: Look,
) -> None:
    """Draw means with intervals: a line a row, the methods one below the other on it."""
    step = 0.8 / max(len(methods), 2)
    for number, method in enumerate(methods):
        here = scores[scores["method"] == method].set_index(by).reindex(rows)
        at = np.arange(len(rows)) + step * (number - (len(methods) - 1) / 2)
        panel.errorbar(here["mean"], at, xerr=_reach(here), fmt=look.markers[method],
                       color=look.colours[method], elinewidth=1, capsize=0)  # fmt: skip
    for edge in np.arange(0.5, len(rows) - 1):
        panel.axhline(edge, color=_GRID, linewidth=0.5)
    panel.set_yticks(range(len(rows)), rows)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)


def _score_axis(panel: "Axes", scale: int) -> None:
    panel.set_xlim(0.85, scale + 0.15)
    panel.set_xticks(range(1, scale + 1))
    panel.grid(axis="x")


def _reach(
    scores: "pandas.DataFrame", mean: str = "mean", low: str = "low", high: str = "high"
) -> np.ndarray:
    """Return how far the intervals reach below and above the means, (2, n); 0 where unknown."""
    values = scores[[mean, low, high]].to_numpy(float)
    reach = np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]])
    return np.nan_to_num(np.maximum(reach, 0))


def _method_legend(figure: "Figure", methods: Sequence[str], look: Look) -> None:
    from matplotlib.lines import Line2D

    if len(methods) < 2:
        return
    handles = [
        Line2D([], [], color=look.colours[name], marker=look.markers[name], linestyle="none")
        for name in methods
    ]
    names = [_shortened(name, 24) for name in methods]
    room = int(figure.get_figwidth() / 0.95)
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), room))


def _rho(line: Any) -> str:
    if not np.isfinite(line.rho):
        return _wrapped(line.words, 30)
    interval = f" ({line.low:.2f} to {line.high:.2f})" if np.isfinite(line.low) else ""
    return f"ρ = {line.rho:.2f}{interval}".replace("-", "−")


def _draw_faces(
    figure: "Figure", curves: Mapping[str, np.ndarray], rate: float, worst: int | None, colour: str
) -> None:
    landmarks, driving = curves["landmarks"], curves.get("driving_landmarks")
    last = len(landmarks) - 1
    frames = sorted({round(last * i / 4) for i in range(5)} | ({worst} - {None}))
    panels = figure.subplots(1, len(frames), sharex=True, sharey=True, squeeze=False)[0]
    for panel, frame in zip(panels, frames, strict=True):
        if driving is not None and frame < len(driving):
            _draw_face(panel, driving[frame], _PALE, 0.8)
        _draw_face(panel, landmarks[frame], colour, 1.1)
        panel.set_title(
            f"{frame / rate:.2f} s" + (", worst" if frame == worst else ""),
            size=7,
            weight="bold" if frame == worst else "normal",
            loc="center",
        )
        panel.set_aspect("equal")
        panel.set_axis_off()
    panels[0].invert_yaxis()


def _draw_face(panel: "Axes", points: np.ndarray, colour: str, width: float) -> None:
    if not np.isfinite(points).all():
        return
    for first, end, closed in _FACE_LINES:
        line = points[first:end]
        line = np.concatenate([line, line[:1]]) if closed else line
        panel.plot(line[:, 0], line[:, 1], color=colour, linewidth=width)


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width)

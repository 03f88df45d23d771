"""The pictures of scores, metrics and motion, each as PNG and SVG under ``figures/``.

seaborn draws them, at the size that they have in print; the intervals are those of the tables. A
picture that uses simulated ratings says so in itself, since pictures travel without their page.
"""

import contextlib
import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from studykit import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from studykit.stats.power import RaterPlan

COLUMN, TEXT = 3.4, 7.0  # inches: one column of a paper, and both
PANELS = 12

_STYLE = Path(__file__).with_name("print.mplstyle")
_INK, _PALE, _GRID, _ALARM = "#1b1f24", "#5b6570", "#dfe3e8", "#a3261c"
_SIMULATED = "Simulated ratings: no person rated these clips"


@dataclass(frozen=True)
class Look:
    """What the pictures of a study have in common.

    Attributes
    ----------
    methods : sequence of str
        In the study's order; each has its own colour and, in grey, its own marker.
    scale : int
        Steps of the rating scale.
    simulated : bool
        Whether the ratings are; every picture of them then says so.
    types : pair of sequences of str
        The source types and the driving types, in order.
    """

    methods: Sequence[str]
    scale: int
    simulated: bool
    types: tuple[Sequence[str], Sequence[str]] = ((), ())

    @property
    def colours(self) -> dict[str, tuple[float, float, float]]:
        """Each method's colour, safe for the colour-blind."""
        import seaborn as sns

        # Two of the ten are too pale for a thin line on white.
        *dark, _, grey, _, blue = sns.color_palette("colorblind")
        return dict(zip(self.methods, itertools.cycle([*dark, grey, blue]), strict=False))

    @property
    def markers(self) -> dict[str, str]:
        """Each method's marker."""
        return dict(zip(self.methods, itertools.cycle("oDs^vP*X<>"), strict=False))


def heat_maps(path: Path, scores: pd.DataFrame, look: Look) -> Path:
    """Draw source type x driving type, a map a method: mean, interval and n in each cell.

    Parameters
    ----------
    path : Path
        The PNG file; an SVG file stands beside it.
    scores : DataFrame
        One criterion of ``stats.mean_scores`` by condition.
    look : Look

    Returns
    -------
    Path
        That of the PNG file.
    """
    import seaborn as sns

    sources, drivings = look.types
    across = min(3, len(look.methods))
    down = -(-len(look.methods) // across)
    width = 0.75 + across * (0.35 + 0.62 * len(drivings))
    height = 0.75 + down * (0.5 + 0.58 * len(sources))
    scores = scores.assign(detail=[_interval_and_count(line) for line in scores.itertuples()])
    large, small = {"size": 9, "weight": "bold", "va": "bottom"}, {"size": 6.2, "va": "top"}
    with _drawing(path, max(width, COLUMN), height, look.simulated) as figure:
        panels = _panels(figure, len(look.methods), across)
        for panel, method in zip(panels, look.methods, strict=True):
            here = scores[scores["method"] == method]
            means, details = (
                here.pivot(index="source_type", columns="driving_type", values=column).reindex(
                    index=sources, columns=drivings
                )
                for column in ("mean", "detail")
            )
            means = means.astype(float)
            sns.heatmap(means, annot=True, fmt=".2f", annot_kws=large, cmap="cividis", vmin=1,
                        vmax=look.scale, cbar=False, ax=panel)  # fmt: skip
            for row, column in np.argwhere(means.notna()):
                panel.text(column + 0.5, row + 0.5, details.iat[row, column], ha="center", **small)
            for text in panel.texts:  # cividis is dark in its lower half
                column, row = map(int, text.get_position())
                dark = means.iat[row, column] < (1 + look.scale) / 2
                text.set(color="white" if dark else _INK, linespacing=1.4)
            for row, column in np.argwhere(means.isna()):
                panel.text(column + 0.5, row + 0.5, "no rating", ha="center", va="center",
                           size=6, color=_PALE)  # fmt: skip
            panel.set(title=_shortened(method), xlabel="driving", ylabel="source")
        bar = figure.colorbar(
            panels[0].collections[0], ax=figure.axes, shrink=0.8, aspect=28, pad=0.02
        )
        bar.set_label("mean score")
        bar.set_ticks(range(1, look.scale + 1))
        bar.outline.set_visible(False)
    return path


def score_rows(
    path: Path,
    scores: pd.DataFrame,
    places: tuple[str, Sequence[str]],
    look: Look,
    *,
    panels: tuple[str, Sequence[str]] | None = None,
    width: float = TEXT,
) -> Path:
    """Draw means with intervals: a row a place, the methods one below the other in it.

    Parameters
    ----------
    scores : DataFrame
        method, mean, low and high, with the columns of places and panels.
    places, panels : str, sequence of str
        A column, and its values in order.
    width : float
        In inches.
    """
    column, order = places
    methods = len(look.methods) + 1
    row = max(0.32, 0.13 * methods) if width == COLUMN else max(0.2, 0.085 * methods)
    with _drawing(path, width, 0.85 + len(order) * row, look.simulated) as figure:
        plot = _intervals(scores, look, "y", places).limit(x=(0.85, look.scale + 0.15))
        plot = plot.label(x="mean score, 95 % interval", y="")
        if panels:
            plot = plot.facet(panels[0], order=panels[1]).label(x="mean score", y=column)
        plot.on(figure).plot()
        for panel in figure.axes:
            panel.set_xticks(range(1, look.scale + 1))
            for edge in np.arange(0.5, len(order) - 1):
                panel.axhline(edge, color=_GRID, linewidth=0.5, zorder=0.5)
        _method_legend(figure, look)
    return path


def methods_by_condition(path: Path, scores: pd.DataFrame, look: Look) -> Path:
    """Draw how each method's score goes over driving types, one panel a source type.

    ``scores`` is one criterion of ``stats.mean_scores`` by condition. Lines that run side by side
    show no interaction.
    """
    import seaborn.objects as so

    sources, drivings = look.types
    with _drawing(path, TEXT, 2.6, look.simulated) as figure:
        plot = _intervals(scores, look, "x", ("driving_type", drivings), width=0.25)
        plot = plot.add(so.Line(marker=""), so.Dodge(by=["color"]), legend=False, width="width")
        plot = plot.facet("source_type", order=sources).label(title="{} sources".format)
        plot = plot.limit(y=(0.9, look.scale + 0.1))
        plot.label(x="driving", y="mean score, 95 % interval").on(figure).plot()
        for panel in figure.axes:
            panel.set_yticks(range(1, look.scale + 1))
        _method_legend(figure, look)
    return path


def metrics_and_ratings(
    path: Path,
    clips: pd.DataFrame,
    correlations: pd.DataFrame,
    labels: Mapping[str, str],
    look: Look,
) -> Path:
    """Draw each metric against the clips' mean score, with its correlation.

    Parameters
    ----------
    clips : DataFrame
        metric, value, score and method, one row a clip and metric.
    correlations : DataFrame
        One criterion of ``stats.correlate_metrics``: metric, r, low, high, n_clips, words. The
        order of its rows is that of the panels, of which there are at most ``PANELS``.
    labels : mapping of str
        A metric's name with its unit, as an axis is labelled.
    """
    import seaborn as sns

    shown = correlations.head(PANELS)
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    width, height = TEXT * max(across, 2) / 4, 0.6 + 1.55 * down
    with _drawing(path, width, height, look.simulated) as figure:
        panels = _panels(figure, len(shown), across, sharey=True)
        for panel, line in zip(panels, shown.itertuples(), strict=True):
            sns.scatterplot(
                clips[clips["metric"] == line.metric], x="value", y="score", hue="method",
                hue_order=look.methods, palette=look.colours, style="method", markers=look.markers,
                s=14, alpha=0.8, linewidth=0.3, legend=False, ax=panel,
            )  # fmt: skip
            panel.set_title(_r(line), weight="normal", size=7)
            panel.set_xlabel(textwrap.fill(labels.get(line.metric, line.metric), 26), size=7)
            panel.set(ylabel="", ylim=(0.9, look.scale + 0.1), yticks=range(1, look.scale + 1))
            panel.locator_params(axis="x", nbins=4)
        figure.supylabel("mean score of the clip", size=8)
        _method_legend(figure, look)
    return path


def agreement(
    path: Path, agreements: pd.DataFrame, raters: pd.DataFrame, threshold: float | None, look: Look
) -> Path:
    """Draw agreement by criterion, and each rater's correlation with all others.

    Parameters
    ----------
    agreements : DataFrame
        ``stats.agreement``: criterion, mean, mean_low, mean_high.
    raters : DataFrame
        rater, figure (correlation with the mean of the others) and excluded.
    threshold : float or None
        Below it a rater is excluded.
    """
    import seaborn as sns

    known = agreements.dropna(subset=["mean"]).assign(method="")
    known = known.rename(columns={"mean_low": "low", "mean_high": "high"})
    ranked = raters.dropna(subset=["figure"]).sort_values("figure", ascending=False)
    ranked["place"] = np.arange(len(ranked)) + 1
    ranked["rater"] = np.where(ranked["excluded"], "excluded", "kept")
    with _drawing(path, TEXT, 2.3, look.simulated) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        alone = replace(look, methods=[""])
        plot = _intervals(known, alone, "y", ("criterion", [*known["criterion"]])).label(y="")
        plot = plot.label(x="clips' share of the variance of means, 95 %")
        plot.limit(x=(min(0, known["low"].min() - 0.05), 1)).on(left).plot()
        left.set_title("What the mean is worth")
        kinds = replace(look, methods=["kept", "excluded"])
        sns.scatterplot(
            ranked, x="place", y="figure", hue="rater", hue_order=kinds.methods, s=26,
            palette=kinds.colours, style="rater", markers={"kept": "o", "excluded": "X"},
            legend="full" if ranked["excluded"].any() else False, ax=right,
        )  # fmt: skip
        if threshold is not None:
            right.axhline(threshold, color=_PALE, linewidth=0.7, linestyle="--")
        right.set_ylim(min([0, *ranked["figure"]]) - 0.05, 1)
        right.set(title="Each rater beside all others", xlabel="raters, by agreement")
        right.set_ylabel("correlation with\nthe other raters")
        right.locator_params(axis="x", integer=True)
        right.grid(visible=False, axis="x")
        if right.get_legend():
            sns.move_legend(right, "lower left", title=None)
    return path


def motion_over_time(
    path: Path, curves: Mapping[str, np.ndarray], *, worst: int | None, colour: Any = "#D55E00"
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
        panels = _panels(bottom, len(rows), across, sharex=True)
        for panel, (title, name, unit) in zip(panels, rows, strict=True):
            # seaborn's lines would join the frames on both sides of one without a face
            for whose, look in (
                (f"driving_{name}", {"color": _PALE, "linestyle": "--", "label": "driving"}),
                (name, {"color": colour, "label": "clip"}),
            ):
                if whose in curves:
                    panel.plot(np.arange(len(curves[whose])) / rate, curves[whose], **look)
            if worst is not None:
                panel.axvline(worst / rate, color=_INK, linewidth=0.6, linestyle=":")
            panel.set_title(title, size=7.5)
            panel.set_ylabel(unit, size=7)
            panel.locator_params(axis="y", nbins=4)
            panel.grid(visible=False, axis="x")
        for panel in panels[-across:]:
            panel.set_xlabel("seconds")
            panel.tick_params(labelbottom=True)
        handles, names = bottom.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
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


def power_map(path: Path, plan: "RaterPlan") -> Path:
    """Draw how often studies find the difference of a plan, over raters and stimuli.

    Returns
    -------
    Path
        That of the PNG file; an SVG file stands beside it.
    """
    import seaborn as sns
    from matplotlib.patches import Rectangle

    names = list(plan.table["comparison"])
    grid = plan.grid.assign(share=100 * plan.grid["power"])
    with _drawing(path, TEXT, 0.55 + 1.75 * len(names), simulated=False) as figure:
        panels = _panels(figure, len(names), 1)
        for panel, name in zip(panels, names, strict=True):
            here = grid[grid["comparison"] == name]
            shares = here.pivot(index="stimuli", columns="raters", values="share")
            reason = plan.table.set_index("comparison").loc[name, "reason"]
            shares.loc[0] = np.nan if reason else shares.loc[0]
            sns.heatmap(shares, annot=True, fmt=".0f", annot_kws={"size": 7}, cmap="cividis",
                        vmin=0, vmax=100, cbar=False, linewidths=0.5, ax=panel)  # fmt: skip
            panel.invert_yaxis()
            if reason:
                panel.text(shares.shape[1] / 2, 0.5, "can't be tested", ha="center", va="center",
                           size=7, color=_PALE)  # fmt: skip
            rows = ["this study", *(f"{count} + {count}" for count in shares.index[1:])]
            panel.set_yticklabels(rows, rotation=0)
            panel.set(title=f"difference between {name}", xlabel="", ylabel="")
            for (row, column), share in np.ndenumerate(shares.to_numpy()):
                if share >= 100 * plan.power:
                    box = Rectangle((column + 0.04, row + 0.06), 0.92, 0.88, fill=False)
                    box.set(edgecolor=_ALARM, linewidth=1.2)
                    panel.add_patch(box)
        panels[-1].set_xlabel(
            "raters (framed: the power asked for; rows: sources + drivings of each type)"
        )
        figure.suptitle("Power in %", size=8)
    return path


@contextlib.contextmanager
def _drawing(path: Path, width: float, height: float, simulated: bool) -> "Iterator[Figure]":
    """Give a figure of the report's style; at the end it is written as PNG and SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_theme()):
        figure = Figure(figsize=(width, height + 0.2 * simulated), layout="constrained")
        yield figure
        if simulated:
            _stamp(figure)
        figure.get_layout_engine().execute(figure)  # once: each savefig would draw all to find it
        figure.set_layout_engine("none")
        for suffix, metadata in ((".svg", {"Date": None}), (".png", None)):
            with files.whole(path.with_suffix(suffix)) as part:
                figure.savefig(part, metadata=metadata)


def _theme() -> dict[str, Any]:
    import matplotlib
    import seaborn as sns

    own = matplotlib.rc_params_from_file(_STYLE, use_default_template=False)
    return sns.axes_style("whitegrid") | sns.plotting_context("paper", font_scale=0.83) | own


def _stamp(figure: "Figure") -> None:
    figure.suptitle(_SIMULATED, size=7.5, weight="bold", color=_ALARM)
    width, height = figure.get_size_inches()
    figure.text(0.5, 0.48, "SIMULATED", size=min(width * 9, height * 14), weight="bold",
                color=_ALARM, alpha=0.13, rotation=18, ha="center", va="center",
                zorder=1000)  # fmt: skip


def _intervals(
    scores: pd.DataFrame,
    look: Look,
    axis: str,
    places: tuple[str, Sequence[str]],
    width: float = 0.8,
) -> Any:
    """Return a plot of means with the intervals that they have, the methods side by side.

    Parameters
    ----------
    scores : DataFrame
        method, mean, low and high, with the column of the places.
    axis : {"x", "y"}
        On which the places lie.
    places : str, sequence of str
        The column that says where a mean belongs, and its values in order.
    width : float
        How much of the way from one place to the next the methods take together.
    """
    import seaborn.objects as so

    column, order = places
    value = {"x": "y", "y": "x"}[axis]
    limits = {f"{value}min": "low", f"{value}max": "high"}
    known = scores[scores[column].isin(order) & scores["method"].isin(look.methods)]
    known = known.assign(width=width)
    aside = so.Dodge(by=["color"])  # by marker too, it would leave room for every pair of the two
    return (
        so.Plot(known, **{axis: column, value: "mean"}, color="method", marker="method")
        .add(so.Range(), aside, legend=False, width="width", **limits)
        .add(so.Dot(pointsize=4.5), aside, legend=False, width="width")
        .scale(
            **{axis: so.Nominal(order=list(order))},
            color=so.Nominal(look.colours, order=list(look.methods)),
            marker=so.Nominal(look.markers, order=list(look.methods)),
        )
        .theme(_theme())
    )


def _method_legend(figure: "Figure", look: Look) -> None:
    from matplotlib.lines import Line2D

    if len(look.methods) < 2:
        return
    handles = [
        Line2D([], [], color=look.colours[name], marker=look.markers[name], linestyle="none",
               label=_shortened(name))
        for name in look.methods
    ]  # fmt: skip
    room = int(figure.get_figwidth() / 0.95)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), room))


def _interval_and_count(line: Any) -> str:
    interval = f"{line.low:.1f} to {line.high:.1f}" if np.isfinite(line.low) else "–"
    return f"{interval}\nn = {line.n_raters}"


def _r(line: Any) -> str:
    if not np.isfinite(line.r):
        return textwrap.fill(line.words, 30)
    interval = f" ({line.low:.2f} to {line.high:.2f})" if np.isfinite(line.low) else ""
    return f"r = {line.r:.2f}{interval}".replace("-", "−")


def _draw_faces(
    figure: "SubFigure",
    curves: Mapping[str, np.ndarray],
    rate: float,
    worst: int | None,
    colour: Any,
) -> None:
    landmarks, driving = curves["landmarks"], curves.get("driving_landmarks")
    last = len(landmarks) - 1
    frames = sorted({round(last * i / 4) for i in range(5)} | ({worst} - {None}))
    panels = figure.subplots(1, len(frames), sharex=True, sharey=True, squeeze=False)[0]
    for panel, frame in zip(panels, frames, strict=True):
        if driving is not None and frame < len(driving):
            _draw_face(panel, driving[frame], color=_PALE, linewidth=0.8)
        _draw_face(panel, landmarks[frame], color=colour, linewidth=1.1)
        marked = (", worst", "bold") if frame == worst else ("", "normal")
        panel.set_title(f"{frame / rate:.2f} s{marked[0]}", size=7, weight=marked[1], loc="center")
        panel.set_aspect("equal")
        panel.set_axis_off()
    panels[0].invert_yaxis()


def _draw_face(panel: "Axes", points: np.ndarray, **look: Any) -> None:
    if not np.isfinite(points).all():
        return
    for first, end, closed in _FACE_LINES:
        line = points[[*range(first, end), *[first] * closed]]
        panel.plot(line[:, 0], line[:, 1], **look)


def _panels(figure: "Figure | SubFigure", count: int, across: int, **shared: bool) -> list["Axes"]:
    """Divide a figure into rows of panels, the last of which may be short."""
    panels = figure.subplots(-(-count // across) or 1, across, squeeze=False, **shared).ravel()
    for panel in panels[count:]:
        panel.set_visible(False)
    return [*panels[:count]]


def _shortened(text: str, room: int = 24) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"

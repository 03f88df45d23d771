"""The report's sentences, generated from the numbers: they claim what the intervals support.

"Was rated higher" stands only where a corrected test says so, and a difference that was not
shown is never called equality.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from studykit import metrics, stats
from studykit.report.blocks import plain
from studykit.report.results import Results
from studykit.report.tables import metric_label, p_words, with_interval

SIMULATED = (
    "Simulated ratings: no person rated these clips. Every score, statistic and verdict here is "
    "a rehearsal and says nothing about the methods."
)
_LEVEL = 0.05
# Weights that studykit ships, trained on rendered faces.
_SHIPPED = "synth-"
_MOST_NOTES = 50


def studied(results: Results) -> str:
    """Say what was crossed with what, what came of it and on which weights, in one paragraph."""
    study, rows = results.study, list(results.rows.values())
    done = sum(row.status == "done" for row in rows)
    cells = sum(1 for _ in study.cells())
    sources, drivings = results.types
    pairs = {(source.type, driving.type) for source, driving in study.pairs()}
    conditions = len(pairs) * len(study.methods)
    not_run = f", {cells - len(rows)} were not run" if cells > len(rows) else ""
    listed = f"in {_count(len(study.listed), 'listed pair')} " if study.listed else ""
    return (
        f"{_count(len(study.sources), 'source image')} ({_joined(sources)}) and "
        f"{_count(len(study.drivings), 'driving video')} ({_joined(drivings)}) {listed}"
        f"were crossed with "
        f"{_count(len(study.methods), 'method')} ({_joined(map(plain, results.methods))}): "
        f"{_count(cells, 'cell')} in {_count(conditions, 'condition')}. "
        f"{done} have a clip, {len(rows) - done} failed{not_run}. {_rated(results)}"
    )


def weights(results: Results) -> list[str]:
    """Say which weights made the clips, and what shipped weights are worth."""
    done = [row for row in results.rows.values() if row.status == "done"]
    used = sorted({(r.method, r.weights, r.weights_hash) for r in done if r.weights_hash})
    sentences = [
        f"{plain(method)} ran on the weights {plain(name)} (SHA-256 {digest[:12]}…)."
        for method, name, digest in used
    ]
    if any(name.startswith(_SHIPPED) for _, name, _ in used):
        sentences.append(
            "The weights that studykit ships were trained on rendered faces and know no others; "
            "`studykit weights fetch vox-256` fetches those that PaddleGAN trained on real ones."
        )
    return sentences or ["No method in this study uses learned weights."]


def notes(results: Results) -> str:
    """Repeat what methods noted about how their clips were made, each remark once."""
    remarks = {part for row in results.rows.values() if row.note for part in row.note.split("; ")}
    if not remarks:
        return ""
    more = f"; and {len(remarks) - _MOST_NOTES} more" if len(remarks) > _MOST_NOTES else ""
    return f"Notes: {'; '.join(map(plain, sorted(remarks)[:_MOST_NOTES]))}{more}."


def summary(results: Results) -> list[str]:
    """Say which types work, which fail and how sure that is, one sentence or two a point."""
    return [*_rating_findings(results), *_metric_findings(results)]


def cautions(results: Results) -> list[str]:
    """Say what the ratings do not support, in whole sentences."""
    if not results.rated:
        return []
    found = [*results.analysis.warnings]
    versions = results.ratings["study_hash"].nunique()
    if versions > 1:
        found.append(
            f"People rated under {versions} versions of the study file: where scale, criteria or "
            "their words were changed, their ratings do not belong together."
        )
    found += [*results.analysis.verdicts.notes, *results.analysis.friedman.notes]
    return list(dict.fromkeys(found))


def of_result(result: stats.Result) -> str:
    """Return how a result was found, if it was, and what its notes say: the lines below a table."""
    return " ".join([*([result.how] if len(result.table) else []), *result.notes]).strip()


def methods_section(results: Results) -> list[str]:
    """Return the paragraphs of a methods section, to be pasted into a paper."""
    parts = (_stimuli(results), _procedure(results), _measures(results), _statistics(results))
    return [*filter(None, parts)]


def _rated(results: Results) -> str:
    if not results.rated:
        return "No ratings were collected."
    scored = results.ratings[results.ratings["role"] == "rating"]
    raters, answers = scored["rater"].nunique(), len(scored)
    who = "simulated rater" if results.simulated else "rater"
    excluded = len(results.screening.excluded)
    left = f"; {excluded} of them {_were(excluded)} excluded" if excluded else ""
    return f"{_count(raters, who)} gave {answers:,} scores{left}."


def _rating_findings(results: Results) -> list[str]:
    if not results.rated:
        return [
            "Nobody has rated these clips yet, so that nothing can be said about how good they "
            "look: `studykit serve` or notebook 3 collects ratings."
        ]
    analysis = results.analysis
    if results.screening.kept.empty:
        return [
            "Every rater was excluded, so that nothing can be said about the clips: see Raters "
            "for the reasons."
        ]
    if analysis.condition_scores.table.empty:
        return _pair_findings(analysis.bradley_terry.table)
    return [
        *_verdict_findings(results, analysis.verdicts.table),
        *_method_findings(results),
        *_type_findings(results),
        *_criterion_findings(analysis.method_scores.table),
        *_certainty(results),
    ]


def _verdict_findings(results: Results, verdicts: pd.DataFrame) -> list[str]:
    """Say, method by method, which conditions are good, flawed and poor."""
    points = []
    for method in results.methods:
        here = verdicts[verdicts["method"] == method]
        if here.empty:
            points.append(f"**{plain(method)}**: not rated.")
            continue
        groups = {verdict: here[here["verdict"] == verdict] for verdict in stats.VERDICTS}
        groups = {verdict: its for verdict, its in groups.items() if len(its)}
        most = max(groups, key=lambda verdict: len(groups[verdict]))
        parts = [
            f"{verdict} in {_which(its, others=verdict == most, of=len(here))}"
            for verdict, its in groups.items()
        ]
        total = _count(len(here), "condition")
        points.append(f"**{plain(method)}**: of {total} (source × driving), {_joined(parts)}.")
    return points


def _pair_findings(strengths: pd.DataFrame) -> list[str]:
    """Say which methods were preferred to, or less liked than, an average one."""
    points = []
    for criterion, here in strengths.groupby("criterion", sort=False):
        parts = [
            f"{plain(line['item'])} was {word} an average method "
            f"({with_interval(line, 'strength')})"
            for word, its in (
                ("preferred to", here[here["low"] > 0]),
                ("liked less than", here[here["high"] < 0]),
            )
            for _, line in its.iterrows()
        ]
        shown = _joined(parts) or "no preference was shown"
        points.append(f"In paired comparisons on {criterion}, {shown} (log odds).")
    return points or ["No rating was given that counts."]


def _which(conditions: pd.DataFrame, *, others: bool, of: int) -> str:
    """Name the conditions of a verdict; the largest group is what is left after the others."""
    if others and len(conditions) < of:
        return f"the other {len(conditions)}"
    if others and of > 1:
        return f"all {of}"
    pairs = zip(conditions["source_type"], conditions["driving_type"], strict=True)
    return f"{len(conditions)} ({named([f'{source} × {driving}' for source, driving in pairs])})"


def _method_findings(results: Results) -> list[str]:
    """Say which methods were shown to differ, and where no difference was shown."""
    table = results.analysis.pairwise.table
    points = []
    for (first, second), here in table.groupby(["first", "second"], sort=False):
        sure = here[here["p_holm"] < _LEVEL]
        parts = [
            f"rated {word} than {plain(second)} on "
            + _joined([_difference(line) for _, line in its.iterrows()])
            for word, its in (
                ("higher", sure[sure["difference"] > 0]),
                ("lower", sure[sure["difference"] < 0]),
            )
            if len(its)
        ]
        rest = [name for name in here["criterion"] if name not in set(sure["criterion"])]
        if parts:
            tail = f"; on {_joined(rest)} no difference was shown" if rest else ""
            points.append(f"**{plain(first)}** was {', and '.join(parts)}{tail}.")
        else:
            points.append(
                f"Between **{plain(first)}** and **{plain(second)}** no difference was shown on "
                "any criterion, which is not to say that there is none."
            )
    return points


def _type_findings(results: Results) -> list[str]:
    """Say which source and driving types score lower, by the mixed model of all criteria."""
    model = results.analysis.models.get(stats.OVERALL)
    if model is None or model.differences.empty:
        return []
    points = []
    study = results.study
    for noun, inputs in (
        ("source", (*study.sources, *study.first_frames)),
        ("driving", study.drivings),
    ):
        here = model.differences[model.differences["factor"] == f"{noun}_type"]
        sure = here[here["p_holm"] < _LEVEL]
        if here.empty:
            continue
        if sure.empty:
            points.append(f"Over all methods no difference between {noun} types was shown.")
            continue
        counts = Counter(item.type for item in inputs)
        parts = []
        for _, line in sure.iterrows():
            pair = (line["first"], line["second"])
            better, worse = pair if line["difference"] >= 0 else pair[::-1]
            if counts[better] == counts[worse] == 1:
                said = f"the one {worse} {noun} scored lower than the one {better} {noun}"
            else:
                said = f"{worse} {noun}s scored lower than {better} ones"
            parts.append(f"{said} (by {_size(line)})")
        said = _joined(parts)
        points.append(f"{said[0].upper()}{said[1:]}, over all methods (mixed model).")
    return points


def _criterion_findings(scores: pd.DataFrame) -> list[str]:
    """Name each method's weakest criterion where its interval lies below all others'."""
    points = []
    for method, here in scores[scores["criterion"] != stats.OVERALL].groupby("method", sort=False):
        here = here.dropna(subset=["mean", "low", "high"]).sort_values("mean")
        if len(here) > 1 and here["high"].iloc[0] < here["low"].iloc[1:].min():
            line = here.iloc[0]
            points.append(
                f"The weakest side of {plain(method)} is {line['criterion']} "
                f"({with_interval(line)})."
            )
    return points


def _certainty(results: Results) -> list[str]:
    """Say how sure the scores are: the width of intervals and how raters agree."""
    scores = results.analysis.condition_scores.table
    overall = scores[scores["criterion"] == stats.OVERALL].dropna(subset=["low", "high"])
    points = []
    if len(overall):
        half = ((overall["high"] - overall["low"]) / 2).median()
        points.append(
            f"How sure: a condition's overall mean is known to ± {half:.2f} steps (95 %, median "
            f"over conditions) from {_spread(overall['n_raters'])}."
        )
    agreement = results.analysis.agreement.table.dropna(subset=["alpha"])
    agreement = agreement[agreement["criterion"] != stats.OVERALL]
    if len(agreement):
        low, high = agreement["alpha"].min(), agreement["alpha"].max()
        by_reading = agreement.groupby("reading", sort=False)["criterion"].agg(list)
        readings = [
            f"{reading} on {_joined(names) if len(by_reading) > 1 else 'all criteria'}"
            for reading, names in by_reading.items()
            if reading
        ]
        said = f": {_joined(readings)}" if readings else ""
        points.append(
            f"Raters' agreement is between {low:.2f} and {high:.2f} (Krippendorff's alpha){said}."
        )
    return points


def _metric_findings(results: Results) -> list[str]:
    """Say which metric goes with the ratings, or where none was shown to."""
    if results.metrics.empty:
        return ["No metrics were measured."]
    if not results.rated:
        return []
    table = results.analysis.metric_correlation.table
    table = table[table["criterion"] == stats.OVERALL].dropna(subset=["rho"])
    if table.empty:
        return []
    sure = table[table["p_holm"] < _LEVEL]
    if sure.empty:
        return ["No metric was shown to go with the overall score over clips."]
    best = sure.loc[sure["rho"].abs().idxmax()]
    direction = "with" if best["rho"] > 0 else "against"
    return [
        f"{_count(len(sure), 'metric')} of {len(table)} {_were(len(sure))} shown to correlate "
        f"with the overall score over clips; most of all {metric_label(best['metric'])}, which "
        f"goes {direction} the raters (rho = {with_interval(best, 'rho')})."
    ]


def _stimuli(results: Results) -> str:
    study, data = results.study, results.manifest
    sources = Counter(item.type for item in study.sources)
    drivings = Counter(item.type for item in study.drivings)
    listed = _count(len(study.listed), "listed pair")
    combined = f"combined in {listed}" if study.listed else "crossed"
    crop = {
        "face": "a square around the largest face",
        "face-or-centre": "a square around the largest face, or the centred square where none "
        "was found",
        "centre": "the centred square",
    }[study.crop]
    text = (
        f"**Stimuli.** {_kinds(sources, 'source image')} and {_kinds(drivings, 'driving video')} "
        f"were {combined}. All were cropped to {crop} and scaled to {study.size} × {study.size} "
        f"pixels. Each pair was animated by {_joined(_described(results))}."
    )
    if "same-identity" in study.protocols:
        text += (
            " In the same-identity protocol a driving's reference frame was its source, so that "
            "the driving itself is the truth."
        )
    if data:
        machine = data["machine"]
        versions = ", ".join(
            f"{plain(name)} {version}"
            for name, version in data["versions"].items()
            if name in ("studykit", "python", "paddlepaddle", "ppgan", "numpy")
        )
        text += f" Clips were made on {plain(machine['processor'])} ({versions})."
        made = [row.version for row in results.rows.values() if row.status == "done"]
        for version in sorted({*made} - {data["versions"]["studykit"]}):
            count = made.count(version)
            text += f" {_count(count, 'clip')}, which people had rated, {_were(count)} kept from "
            text += f"studykit {version or '0.1'}."
    return text


def _procedure(results: Results) -> str:
    rules = results.study.ratings
    if not results.rated:
        return ""
    names = [criterion.label.lower() for criterion in rules.asked]
    task = {
        "acr": f"rated single clips on {_joined(names)} (absolute category rating, {rules.scale} "
        "steps, higher is better)",
        "dcr": f"rated clips beside their driving on {_joined(names)} (degradation category "
        f"rating, {rules.scale} steps, higher is better)",
        "pair": f"compared two clips of the same source and driving on {_joined(names)}",
    }[rules.task]
    who = "Simulated raters, drawn from a statistical model of raters," if results.simulated \
        else "Raters"  # fmt: skip
    share = f"{100 * rules.watch:.0f} %" if rules.watch < 1 else "the whole"
    held = {
        "training clip": rules.training,
        "hidden repeat": rules.repeats,
        "hidden reference": rules.references,
        "gold clip": rules.gold,
    }
    counts = [_count(number, noun) for noun, number in held.items() if number]
    text = (
        f"**Ratings.** {who} {task}, blind to method and condition. The order of conditions was "
        f"balanced over raters (Williams design, seed {results.study.seed}); {share} of a clip "
        "had to be watched before an answer counted."
    )
    if counts:
        text += f" A session held {_joined(counts)} beside the rated clips; none enters the scores."
    return f"{text} {results.screening.words}"


def _measures(results: Results) -> str:
    if results.metrics.empty:
        return ""
    there = set(results.metrics["metric"])
    texts = [
        f"{metric.label}: {metric.text.rstrip('.')}"
        for metric in metrics.METRICS.values()
        if metric.name in there
    ]
    extractors = sorted({plain(name) for name in results.metrics["extractor"].dropna() if name})
    tail = f" Features came from {_joined(extractors)}." if extractors else ""
    return f"**Metrics.** {'. '.join(texts)}.{tail}"


def _statistics(results: Results) -> str:
    if not results.rated:
        return ""
    analysis = results.analysis
    used = [
        analysis.condition_scores,
        analysis.agreement,
        analysis.friedman,
        analysis.pairwise,
        *list(analysis.models.values())[:1],
        analysis.metric_correlation,
        analysis.bradley_terry,
    ]
    hows = dict.fromkeys(result.how for result in used if len(result.table) and result.how)
    return f"**Statistics.** {' '.join(hows)} {analysis.rule.words}"


def _described(results: Results) -> list[str]:
    """Return each method with what it is and the settings that differ from its defaults."""
    described = []
    for spec in results.study.methods:
        known = results.manifest.get("methods", {}).get(spec.name, {})
        used = {"weights": known["weights"]} if known.get("weights") else {}
        said = [f"{plain(key)} {plain(value)}" for key, value in (spec.settings | used).items()
                if key not in ("path", "device")]  # fmt: skip
        kind = [f"method {spec.method}"] if spec.method != spec.name else []
        inside = "; ".join(kind + said)
        described.append(plain(spec.name) + (f" ({inside})" if inside else ""))
    return described


def _difference(line: Any) -> str:
    """Return a criterion and how large the difference on it is, without its sign."""
    return f"{line['criterion']} (by {_size(line)}, {p_words(line['p_holm'])})"


def _size(line: Any) -> str:
    low, high = sorted((abs(line["low"]), abs(line["high"])))
    if line["low"] * line["high"] < 0:  # a rank test may find what an interval of means does not
        low = -low
    return f"{abs(line['difference']):.2f} [{low:.2f}, {high:.2f}]"


def _kinds(counts: Counter, noun: str) -> str:
    parts = [f"{count} {kind}" for kind, count in counts.items()]
    return f"{_joined(parts)} {noun}{'' if sum(counts.values()) == 1 else 's'}"


def _spread(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return _count(high, "rater") if low == high else f"{low} to {high} raters"


def named(items: Sequence[str], most: int = 6) -> str:
    """Return the first names of a list, and whether there are more."""
    return ", ".join(items[:most]) + (", …" if len(items) > most else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _joined(items: Iterable[str]) -> str:
    """Join with commas and "and".

    >>> _joined(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = [*items] or [""]
    return f"{', '.join(most)} and {last}" if most else last

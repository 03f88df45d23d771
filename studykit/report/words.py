"""The report's sentences, generated from the numbers: they claim what the intervals support.

"Was rated higher" stands only where a corrected test says so, and a difference that was not
shown is never called equality.
"""

import contextlib
import inspect
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from studykit import metrics, stats
from studykit.errors import StudyError
from studykit.media.squares import probed
from studykit.methods import method_class
from studykit.metrics.truth import is_rendered
from studykit.ratings.design import balanced_rows, study_clips
from studykit.ratings.screening import withdrawn_words
from studykit.report.blocks import plain
from studykit.report.results import Results
from studykit.report.tables import metric_label, p_words, with_interval
from studykit.study.file import Input, Study

SIMULATED = (
    "Simulated ratings: no person rated these clips. Every score, statistic and verdict here is "
    "a rehearsal and says nothing about the methods."
)
_LEVEL = 0.05
# Weights that studykit ships, trained on rendered faces.
_SHIPPED = "synth-"
_SHIPPED_KNOW = "The weights that studykit ships were trained on rendered faces and know no others"
_EXTRACTORS = {
    "mediapipe-68": "those 68 points of MediaPipe's face mesh that lie where iBUG's landmarks do",
    "dlib-128": "dlib's embedding of a face by 128 numbers",
    "TV-L1": "optical flow by total variation and an L1 data term (Zach et al. 2007)",
}
_MOST_NOTES = 50


def studied(results: Results) -> str:
    """Say what was crossed with what, what came of it and on which weights, in one paragraph."""
    study, rows, done = results.study, results.rows, len(results.made)
    cells = sum(1 for _ in study.cells())
    sources, drivings = results.types
    pairs = {(source.type, driving.type) for source, driving in study.pairs()}
    conditions = len(pairs) * len(study.methods)
    left = cells - len(rows)
    not_run = f", {left} {_were(left)} not run" if left else ""
    came = f"{done} have a clip, {len(rows) - done} failed{not_run}."
    if not rows:
        came = f"{no_clips(results).capitalize()}."
    elif done == cells:
        came = "All have a clip." if cells > 1 else "It has a clip."
    listed = f", in {_count(len(study.listed), 'listed pair')}," if study.listed else ""
    return (
        f"{_count(len(study.sources), 'source image')} ({_joined(sources)}) and "
        f"{_count(len(study.drivings), 'driving video')} ({_joined(drivings)}){listed} "
        f"were crossed with "
        f"{_count(len(study.methods), 'method')} ({_joined(map(plain, results.methods))}): "
        f"{_count(cells, 'cell')} in {_count(conditions, 'condition')}. "
        f"{came} {_rated(results)}".rstrip()
    )


def no_clips(results: Results) -> str:
    """Say why there is no clip, "" where there is one."""
    if results.made:
        return ""
    if results.rows:
        return "no clip could be made"
    if results.rated or results.withdrawn:
        return "the clips are not in this folder"
    return "the study was not run yet"


def no_scores(results: Results) -> str:
    """Say why no score can be given, "" where one can."""
    if not results.rated:
        if results.withdrawn:
            return "every rater has withdrawn"
        return no_clips(results) or "nobody has rated these clips yet"
    if results.screening.kept.empty:
        return "every rater was excluded"
    analysis = results.analysis
    scored = len(analysis.condition_scores.table) or len(analysis.bradley_terry.table)
    return "" if scored else "no rating was given that counts"


def only_compared(results: Results) -> bool:
    """Say whether clips were compared in pairs and none was rated on a scale."""
    return not no_scores(results) and results.analysis.condition_scores.table.empty


def better(results: Results) -> str:
    """Say which way a score is better, "" where there are none on a scale."""
    rules = results.study.ratings
    if only_compared(results):
        return ""
    best = f": {rules.scale} in jitter is none to be seen"
    asked = any(criterion.name == "jitter" for criterion in rules.asked)
    return f"Higher is better on every criterion{best if asked else ''}."


def weights(results: Results) -> list[str]:
    """Say which weights made the clips, and what shipped weights are worth."""
    if not results.made:
        return []
    used = sorted({(r.method, r.weights, r.weights_hash) for r in results.made if r.weights_hash})
    sentences = [
        f"{plain(method)} ran on the weights {plain(name)} (SHA-256 {digest[:12]}…)."
        for method, name, digest in used
    ]
    if any(name.startswith(_SHIPPED) for _, name, _ in used):
        sentences.append(
            f"{_SHIPPED_KNOW}; `studykit weights fetch vox-256` fetches those that PaddleGAN "
            "trained on real ones."
        )
    return sentences or ["No clip was made with learned weights."]


def notes(results: Results) -> str:
    """Repeat what methods noted about how their clips were made, each remark once."""
    remarks = {part for row in results.rows.values() if row.note for part in row.note.split("; ")}
    if not remarks:
        return ""
    more = f"; and {len(remarks) - _MOST_NOTES} more" if len(remarks) > _MOST_NOTES else ""
    return f"Notes: {'; '.join(map(plain, sorted(remarks)[:_MOST_NOTES]))}{more}."


def summary(results: Results) -> dict[str, list[str]]:
    """Say what was found and how sure that is: points by what they speak of.

    Where there are ratings, the points are made from the rows of ``stats.findings`` alone.
    """
    if why := no_scores(results):
        more = {
            "the study was not run yet": "`studykit run` makes its clips",
            "no clip could be made": "the reasons stand under Failures and time",
            "nobody has rated these clips yet": "`studykit serve` or notebook 3 collects ratings",
            "every rater was excluded": "the reasons stand under Raters",
            "every rater has withdrawn": "their answers were deleted",
        }.get(why, "training, repeats and gold clips enter no score")
        said = f"{why[0].upper()}{why[1:]}, so that nothing can be said about how good clips look: "
        unmeasured = results.metrics.empty and not no_clips(results)
        return {"": [f"{said}{more}.", *["No metrics were measured."] * unmeasured]}
    found = results.analysis.findings.table
    points = {
        "About raters, sources and drivings like these": [
            *_method_findings(found),
            *(point for noun in ("source", "driving") for point in _type_findings(found, noun)),
            *_interaction_findings(found),
            *_metric_findings(found),
        ],
        "About these clips, as raters like these see them": [
            *_verdict_findings(found),
            *_certainty(found),
        ],
    }
    return {heading: said for heading, said in points.items() if said}


def plan(results: Results) -> list[str]:
    """Say whether a plan was followed, where not, and what became of its hypotheses."""
    if not results.rated:
        return []
    frozen = results.plan
    if frozen is None and results.simulated:
        return ["None was frozen: `studykit rate freeze` writes one before the first person rates."]
    if frozen is None:
        return [
            "**Exploratory.** No plan was frozen before the first answer (`studykit rate freeze`): "
            "what was found is to be confirmed by another study."
        ]
    named = f"The plan of {frozen.frozen:%Y-%m-%d %H:%M} UTC (SHA-256 {frozen.sha256[:12]}…)"
    if results.simulated:
        return [f"{named} is for people: simulated raters rehearse it."]
    departed = stats.departures(
        frozen, results.study, results.out, results.ratings, results.screening.kept,
        results.coverage,
    )  # fmt: skip
    if frozen.late or frozen.withdrawn:
        gone = f" ({withdrawn_words(frozen.withdrawn)})" if frozen.withdrawn else ""
        said = [f"**Exploratory.** {named} was written down after {frozen.late:,} answers{gone}."]
    elif departed:
        said = [f"**Preregistered, with departures.** {named} was not followed in what comes next."]
    else:
        said = [f"**Preregistered.** {named} was followed."]
    said += map(plain, departed)
    these = {
        "method": results.analysis.pairwise,
        "source type": results.analysis.source_pairwise,
        "driving type": results.analysis.driving_pairwise,
    }
    tables = {claim: result.table for claim, result in these.items()}
    for hypothesis, outcome, why in stats.outcomes(frozen, results.analysis.findings.table, tables):
        reason = f" ({why})" if why else ""
        said.append(plain(f"Hypothesis: {hypothesis.words}: {outcome}{reason}."))
    return said if frozen.hypotheses else [*said, "The plan names no hypothesis."]


def cautions(results: Results) -> list[str]:
    """Say what the ratings do not support, in whole sentences."""
    if no_scores(results):
        return []
    found = [*results.analysis.warnings]
    versions = results.ratings["study_hash"].nunique()
    if versions > 1:
        found.append(
            f"People rated under {versions} versions of the study file: where scale, criteria or "
            "their words were changed, their ratings do not belong together."
        )
    if results.coverage.behind:
        found.append(results.coverage.words)
    judged = () if only_compared(results) else results.analysis.verdicts.notes
    found += [*judged, *results.analysis.bradley_terry.notes]
    found = [note for note in found if "no paired comparisons" not in note]
    return list(dict.fromkeys(found))


def of_result(result: stats.Result) -> str:
    """Return how a result was found, if it was, and what its notes say: the lines below a table."""
    return " ".join([*([result.how] if len(result.table) else []), *result.notes]).strip()


def methods_section(results: Results) -> list[str]:
    """Return the paragraphs of a methods section, to be pasted into a paper."""
    if not results.rated and no_clips(results):
        return []
    parts = (_stimuli(results), _procedure(results), _measures(results), _statistics(results))
    said = [*filter(None, parts)]
    return [*said, *_references(" ".join(said))]


def _references(text: str) -> list[str]:
    """Return the works that a text cites in full, from the list in ``references.csv``."""
    listed = pd.read_csv(Path(__file__).with_name("references.csv"))
    cited = [row.reference for row in listed.itertuples() if row.cited in text]
    return [f"**References.** {' '.join(sorted(cited))}"] if cited else []


def _rated(results: Results) -> str:
    if not results.rated:
        if results.withdrawn:
            return f"{withdrawn_words(results.withdrawn)}."
        return "" if no_clips(results) else "No ratings were collected."
    scored = results.ratings[results.ratings["role"] == "rating"]
    if scored.empty:
        return "No rating was given that counts."
    raters, answers = scored["rater"].nunique(), len(scored)
    who = "simulated rater" if results.simulated else "rater"
    excluded = len({*results.screening.excluded} & {*scored["rater"]})
    left = f"; {excluded} of them {_were(excluded)} excluded" if excluded else ""
    if excluded == raters:
        left = "; every one of them was excluded" if raters > 1 else ", and was excluded"
    seen = scored.groupby("rater")["cell"].nunique()
    each = f", on {_span(seen, 'clip')} each" if raters > 1 else ""
    if scored["other"].fillna("").ne("").any():
        return f"{_count(raters, who)} made {_count(answers, 'comparison')} of two clips{left}."
    return f"{_count(raters, who)} gave {_count(answers, 'score')}{each}{left}."


def _verdict_findings(found: pd.DataFrame) -> list[str]:
    """Say, method by method, which conditions are good, flawed, poor and undecided."""
    judged = found[found["claim"] == "verdict"]
    kinds = judged["subject"].str.rsplit(" × ", n=1, expand=True).reindex(columns=[0, 1])
    points = []
    for method, here in judged.assign(types=kinds[0]).groupby(kinds[1], sort=False):
        groups = {name: here[here["versus"] == name] for name in stats.VERDICTS}
        groups = {name: its for name, its in groups.items() if len(its)}
        most = max(groups, key=lambda name: len(groups[name]))
        groups[most] = groups.pop(most)  # "the other 8" comes after what they are other than
        parts = [
            f"{name} in {_which(its, others=name == most, of=len(here))}"
            for name, its in groups.items()
        ]
        total = _count(len(here), "condition")
        points.append(f"**{plain(method)}**: of {total} (source × driving), {_joined(parts)}.")
    return points


def _which(conditions: pd.DataFrame, *, others: bool, of: int) -> str:
    """Name the conditions of a verdict; the largest group is what is left after the others."""
    if others and len(conditions) < of:
        return f"the other {len(conditions)}"
    if others and of > 1:
        return f"all {of}"
    return f"{len(conditions)} ({named(list(conditions['types']))})"


def _method_findings(found: pd.DataFrame) -> list[str]:
    """Say which methods were shown to differ, and where no difference was shown."""
    points = []
    for claim, higher, lower in (
        ("method", "rated higher than", "rated lower than"),
        ("preference", "preferred to", "liked less than"),
    ):
        of_claim = found[found["claim"] == claim]
        undecided: dict[str, list[tuple[str, str]]] = {}
        for (first, second), here in of_claim.groupby(["subject", "versus"], sort=False):
            sure = here[here["p_adjusted"] < _LEVEL]
            parts = [
                f"{word} {plain(second)} on {_joined(map(_difference, its.to_dict('records')))}"
                for word, its in (
                    (higher, sure[sure["estimate"] > 0]),
                    (lower, sure[sure["estimate"] < 0]),
                )
                if len(its)
            ]
            rest = here.drop(index=sure.index)
            if parts:
                tail = f"; {_unshown(rest)}" if len(rest) else ""
                points.append(f"**{plain(first)}** was {', and '.join(parts)}{tail}.")
            else:
                undecided.setdefault(_unshown(rest), []).append((plain(first), plain(second)))
        for text, pairs in undecided.items():
            points += [f"{pair}, {text}." for pair in _between(pairs)]
    return points


def _between(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Name the pairs of which one thing is said: many in one sentence."""
    if len(pairs) <= _PAIRS_APART:
        return [f"Between **{first}** and **{second}**" for first, second in pairs]
    names = list(dict.fromkeys(itertools.chain(*pairs)))
    if len(pairs) == math.comb(len(names), 2):
        return [f"Between any two of {_joined(f'**{name}**' for name in names)}"]
    return [f"Between {_joined(f'**{first}** and **{second}**' for first, second in pairs)}"]


_PAIRS_APART = 3  # that get a sentence each


def _unshown(rows: pd.DataFrame) -> str:
    """Say that no difference was shown, or can be, and never that there is none."""
    tested, untold = rows[rows["reason"] == ""], rows[rows["reason"] != ""]
    parts = []
    if len(tested):
        parts.append(
            f"no difference was shown on {_joined(tested['criterion'])}, which is not to say that "
            "there is none"
        )
    parts += [
        f"nothing can be said on {_joined(its['criterion'])} ({reason})"
        for reason, its in untold.groupby("reason", sort=False)
    ]
    return "; ".join(parts)


def _type_findings(found: pd.DataFrame, noun: str) -> list[str]:
    """Say which types score lower, over all methods, and which can't be compared."""
    here = found[found["claim"] == f"{noun} type"]
    points = []
    sure = here[here["p_adjusted"] < _LEVEL]
    better = sure["subject"].where(sure["estimate"] > 0, sure["versus"])
    worse = sure["versus"].where(sure["estimate"] > 0, sure["subject"])
    for (low, high), its in sure.groupby([worse, better], sort=False):
        said = f"{low} {noun}s scored lower than {high} ones on "
        said += _joined(map(_difference, its.to_dict("records")))
        points.append(f"{said[0].upper()}{said[1:]}, over all methods.")
    tested = here[here["reason"] == ""]
    if len(tested) and sure.empty:
        points.append(
            f"No difference between {noun} types ({_joined(_levels(tested))}) was shown, which is "
            "not to say that there is none."
        )
    return [*points, *_untold(here, f"{noun} types")]


def _levels(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys([*rows["subject"], *rows["versus"]]))


def _untold(rows: pd.DataFrame, what: str) -> list[str]:
    """Say what can't be claimed, a sentence a reason."""
    untold = rows[rows["reason"] != ""]
    said: dict[str, list[str]] = {}
    for (first, second, reason), its in untold.groupby(["subject", "versus", "reason"], sort=False):
        # Every criterion alike, or those that are named.
        whole = len(its) == ((rows["subject"] == first) & (rows["versus"] == second)).sum()
        on = "" if whole else f" on {_joined(its['criterion'])}"
        said.setdefault(reason, []).append(f"{first} and {second}{on}")
    return [
        f"Nothing can be claimed about {what} ({'; '.join(pairs)}): {reason}."
        for reason, pairs in said.items()
    ]


def _interaction_findings(found: pd.DataFrame) -> list[str]:
    """Say where a difference depends on a type."""
    here = found[found["claim"].str.contains(" x ")]
    points = []
    for line in here[here["p_adjusted"] < _LEVEL].to_dict("records"):
        noun = line["claim"].split(" x ")[1].split()[0]
        first, second = line["versus"].split(" − ")
        word = "larger" if line["estimate"] > 0 else "smaller"
        points.append(
            f"The difference {plain(line['subject'])} is {word} with {first} than with {second} "
            f"{noun}s on {_difference(line)}."
        )
    tested = here[here["reason"] == ""]
    unshown = [claim for claim, its in tested.groupby("claim", sort=False)
               if not (its["p_adjusted"] < _LEVEL).any()]  # fmt: skip
    if unshown:
        named_so = _joined(claim.replace(" x ", " × ") for claim in unshown)
        points.append(
            f"No interaction was shown ({named_so}), which is not to say that there is none."
        )
    return points


def _metric_findings(found: pd.DataFrame) -> list[str]:
    """Say which primary metrics go with the ratings, and how well they predict them."""
    here = found[(found["claim"] == "metric") & (found["reason"] == "")]
    sure = here[here["p_adjusted"] < _LEVEL]
    points = [
        f"The {metric_label(line['subject'])} goes {'with' if line['estimate'] > 0 else 'against'} "
        f"{line['criterion']} within sources, drivings and methods "
        f"(r = {with_interval(line, 'estimate')}, {p_words(line['p_adjusted'])})."
        for line in sure.to_dict("records")
    ]
    if len(here) and sure.empty:
        names = _joined(map(metric_label, dict.fromkeys(here["subject"])))
        points.append(
            f"No primary metric ({names}) was shown to go with a criterion within sources, "
            "drivings and methods, which is not to say that none does."
        )
    better = found[(found["claim"] == "metric against metric") & (found["p_adjusted"] < _LEVEL)]
    for line in better.to_dict("records"):
        pair = (line["subject"], line["versus"])
        scores = "mean over criteria" if line["criterion"] == stats.MEAN else line["criterion"]
        first, second = map(metric_label, pair if line["estimate"] > 0 else pair[::-1])
        points.append(
            f"The {first} predicts the clips' scores ({scores}) better than the {second} "
            f"({p_words(line['p_adjusted'])})."
        )
    return points


def _certainty(found: pd.DataFrame) -> list[str]:
    """Say in one sentence what the raters' mean is worth."""
    known = found[(found["claim"] == "agreement") & found["estimate"].notna()]
    if known.empty:
        return []
    low, high = (known.loc[place] for place in (known["estimate"].idxmin(),
                                                known["estimate"].idxmax()))  # fmt: skip
    span = f"{low['criterion']} {with_interval(low, 'estimate')}"
    if len(known) > 1:
        span = f"from {span} to {high['criterion']} {with_interval(high, 'estimate')}"
    return [
        f"How sure: the share of the differences between the clips' mean scores that is the clips' "
        f"own, and not the choice of raters, is {span}. Single raters differ more, as opinions do."
    ]


def _known(ask: Callable[[Input], Any], items: Iterable[Input]) -> Iterator[Any]:
    """Yield what is known of inputs; those that can't be read are among the failures."""
    for item in items:
        with contextlib.suppress(StudyError):
            yield ask(item)


def _frame_rate(driving: Input) -> float:
    return float(probed(driving.path).frame_rate)


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
        f"were {combined}. All were cropped to {crop}, and scaled to {study.size} × {study.size} "
        f"pixels. Each pair was animated by {_joined(_described(results))}. {_in_a_line(study)}"
    )
    made = results.made
    if any(row.weights.startswith(_SHIPPED) for row in made):
        text += f" {_SHIPPED_KNOW}."
    rendered = [sum(_known(is_rendered, items)) for items in (study.sources, study.drivings)]
    if any(rendered):
        text += (
            f" Of the sources {rendered[0]} of {len(study.sources)} and of the drivings "
            f"{rendered[1]} of {len(study.drivings)} show rendered faces."
        )
    if rates := sorted(set(_known(_frame_rate, study.drivings))):
        text += f" Drivings have {_joined(f'{rate:.4g}' for rate in rates)} frames a second."
    frames = [row.frames for row in made]
    if any(frames):
        text += f" Clips have {_span(frames, 'frame')}."
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
        used = Counter(row.version for row in made)
        for version in sorted({*used} - {data["versions"]["studykit"]}):
            count = used[version]
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
    share = f"{100 * rules.watch:.0f} %" if rules.watch < 1 else "The whole"
    who, blind = "Raters", ", blind to method and condition"
    watched = f" {share} of a clip had to be watched before an answer counted."
    if results.simulated:
        who = "Simulated raters, drawn from a statistical model of raters and seeing no clip,"
        blind = watched = ""
    several = f" A rater had {rules.sessions} sessions." if rules.sessions > 1 else ""
    held = {
        "training clip": rules.training,
        "hidden repeat": rules.repeats,
        "hidden reference": rules.references,
        "gold clip": rules.gold,
    }
    counts = [_count(number, noun) for noun, number in held.items() if number]
    text = f"**Ratings.** {who} {task}{blind}. {_order(results)}{watched}{several}"
    if counts:
        text += f" A session held {_joined(counts)} beside the rated clips; none enters the scores."
    gone = f" {withdrawn_words(results.withdrawn)}." if results.withdrawn else ""
    return f"{text}{_spread(results)} {results.screening.words}{gone}"


def _spread(results: Results) -> str:
    """Say how many clips a rater rated, and how often a clip was rated."""
    scored = results.ratings[results.ratings["role"] == "rating"]
    if scored.empty:
        return ""
    trials = scored.drop_duplicates(["session", "trial"])
    what = "comparison" if trials["other"].fillna("").ne("").any() else "clip"
    each = _span(trials.groupby("rater").size(), what)
    return f" A rater rated {each}. {results.coverage.words}"


def _order(results: Results) -> str:
    """Say where the order of conditions came from, and no more of its balance than holds."""
    study, sessions = results.study, results.ratings["session"].nunique()
    rows = balanced_rows(study, results.rateable or study_clips(study))
    if rows:
        return (
            f"The order of conditions was taken from the {rows} rows of a Williams design for "
            f"{_count(sessions, 'session')} (seed {study.seed}), which is balanced once all rows "
            "are used equally often."
        )
    return (
        "The clips with the fewest ratings came first, in that order, among many, whose conditions "
        "had stood least often in these places and beside each other by then "
        f"(seed {study.seed})."
    )


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
    parts = " ".join(extractors)
    tail += "".join(f" {name} is {what}." for name, what in _EXTRACTORS.items() if name in parts)
    if "THEval" in "".join(texts):
        tail += " Dynamics follow THEval, but from the 68 landmarks."
    return f"**Metrics.** {'. '.join(texts)}.{_truth(results)}{tail}"


def _truth(results: Results) -> str:
    """Say of how many clips true frames are known, and where they come from."""
    data, own = results.metrics, {cell.name for cell in results.study.cells()
                                  if cell.protocol == "same-identity"}  # fmt: skip
    known = {*data.loc[(data["metric"] == "l1") & data["value"].notna(), "cell"]}
    text = f" True frames are known of {len(known)} of {_count(data['cell'].nunique(), 'clip')}"
    kinds = []
    if known & own:
        kinds.append("in the same-identity protocol they are the driving's own")
    if known - own:
        kinds.append(
            ("else " if kinds else "")
            + "source and driving were both rendered, and the source's face was rendered again "
            "with the driving's motion"
        )
    return f"{text}{': ' if kinds else ''}{'; '.join(kinds)}."


def _statistics(results: Results) -> str:
    if no_scores(results):
        return ""
    analysis = results.analysis
    used = [
        analysis.condition_scores,
        analysis.findings,
        analysis.bradley_terry,
        analysis.agreement,
        analysis.metric_correlation,
        analysis.prediction,
    ]
    hows = dict.fromkeys(result.how for result in used if len(result.table) and result.how)
    return f"**Statistics.** {' '.join(hows)} {analysis.rule.words}"


def _described(results: Results) -> list[str]:
    """Return each method with what it is and the settings that differ from its defaults."""
    described = []
    for spec in results.study.methods:
        known = results.manifest.get("methods", {}).get(spec.name, {})
        used = {name: known[name] for name in ("weights", "version") if known.get(name)}
        said = [f"{plain(key)} {plain(value)}" for key, value in (spec.settings | used).items()
                if key not in ("path", "device", "cwd")]  # fmt: skip
        kind = [f"method {spec.method}"] if spec.method != spec.name else []
        inside = "; ".join(kind + said)
        described.append(plain(spec.name) + (f" ({inside})" if inside else ""))
    return described


def _in_a_line(study: Study) -> str:
    """Say what each method does, by the first line of its documentation."""
    said = {}
    for spec in study.methods:
        line = (inspect.getdoc(method_class(spec.method)) or "").partition("\n")[0].rstrip(".")
        said[spec.method] = f"{spec.method}: {line[:1].lower()}{line[1:]}"
    return f"What each does, in a line: {'; '.join(said.values())}."


def _difference(line: Any) -> str:
    """Return a criterion and how large the difference on it is, without its sign."""
    low, high = sorted((abs(line["low"]), abs(line["high"])))
    # A corrected test may find what an interval on its own holds, and the other way round.
    low = -low if line["low"] * line["high"] < 0 else low
    size = f"{abs(line['estimate']):.2f} [{low:.2f}, {high:.2f}]"
    return f"{line['criterion']} (by {size}, {p_words(line['p_adjusted'])})"


def _kinds(counts: Counter, noun: str) -> str:
    parts = [f"{count} {kind}" for kind, count in counts.items()]
    return f"{_joined(parts)} {noun}{'' if sum(counts.values()) == 1 else 's'}"


def named(items: Sequence[str], most: int = 6) -> str:
    """Return the first names of a list, and whether there are more."""
    return ", ".join(items[:most]) + (", …" if len(items) > most else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _span(numbers: Iterable[int], noun: str) -> str:
    """Count something of which there are as many everywhere, or fewer and more."""
    least, most = min(numbers), max(numbers)
    return _count(most, noun) if least == most else f"{least:,} to {_count(most, noun)}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _joined(items: Iterable[str]) -> str:
    """Join with commas and "and".

    >>> _joined(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = [*items] or [""]
    return f"{', '.join(most)} and {last}" if most else last

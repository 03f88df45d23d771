"""The plan of a study, frozen before anybody answers, and what was done otherwise.

It is a text that people read and that anybody can hash: ``plan.yaml`` in the folder of the results.
Whoever wants others to believe its date gives its SHA-256 away before the first answer.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import studykit
from studykit import files
from studykit.clips.folder import clip_file
from studykit.errors import StudyError, did_you_mean
from studykit.metrics.catalogue import METRICS, PRIMARY
from studykit.ratings.design import study_clips, study_hash
from studykit.ratings.screening import Coverage, withdrawn_words
from studykit.ratings.store import is_there, open_store, place_to_write
from studykit.stats.verdicts import VerdictRule
from studykit.study.document import read_yaml
from studykit.study.file import Study
from studykit.study.hypotheses import FROZEN, Hypothesis

_HEAD = (
    "# The plan of a study, as `studykit rate freeze` wrote it. Don't change it: the report says\n"
    "# whether the SHA-256 is still that of all that follows its line.\n"
)
_SUPPORTED, _AGAINST, _NOT, _OPEN = (
    "supported", "contradicted", "not shown", "can't be tested"
)  # fmt: skip


@dataclass(frozen=True)
class FrozenPlan:
    """A plan as it was frozen.

    Attributes
    ----------
    sha256 : str
        As it stands in the file.
    intact : bool
        Whether it is that of the file's text.
    contents : dict
    """

    sha256: str
    intact: bool
    contents: dict[str, Any]

    @property
    def frozen(self) -> datetime:
        """When it was frozen, in UTC."""
        return datetime.fromisoformat(self.contents["frozen"])

    @property
    def late(self) -> int:
        """How many answers had been given by then."""
        return self.contents["answers_before"]

    @property
    def withdrawn(self) -> int:
        """How many raters had withdrawn by then, whose answers nobody can count."""
        return self.contents.get("withdrawn_before", 0)

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """What was expected."""
        return [Hypothesis(**values) for values in self.contents["hypotheses"]]


def freeze_plan(
    study: Study, out: Path, *, store: str = "", late: bool = False
) -> tuple[Path, str]:
    """Write a study's plan down with the time; return where, and its SHA-256.

    Parameters
    ----------
    study : Study
    out : Path
        The folder of its results.
    store : str
        The address of people's ratings; "" for the study's own.
    late : bool
        Whether to write it all the same after the first; the plan says so.

    Raises
    ------
    StudyError
        There is a plan, an answer was given, or a primary metric is none.
    """
    path = out / FROZEN
    if (known := read_plan(out)) is not None:
        raise StudyError(
            f"{path} was frozen on {known.frozen:%Y-%m-%d} and stands; as long as nobody has "
            "rated, another can be frozen once you have removed it"
        )
    answers, withdrawn = _answers(study, store or place_to_write(study, out))
    if (answers or withdrawn) and not late:
        gone = f" ({withdrawn_words(withdrawn)})" if withdrawn else ""
        raise StudyError(
            f"{answers} answers were given already{gone}, after which a plan is no "
            "preregistration: --late writes one that says so"
        )
    check_plan(study)
    frozen = datetime.now(UTC).isoformat(timespec="seconds")
    contents = {"study": study.name, "frozen": frozen, "answers_before": answers}
    contents["withdrawn_before"] = withdrawn
    clips = {clip.cell: clip_file(out, clip.cell) for clip in study_clips(study)}
    contents |= planned(study) | {
        "study_hash": study_hash(study),
        "inputs": {name: files.sha256(path) for name, path in _inputs(study).items()},
        "clips": {cell: files.sha256(path) if path.is_file() else None
                  for cell, path in clips.items()},
        "studykit": studykit.__version__,
    }  # fmt: skip
    text = yaml.safe_dump(contents, sort_keys=False, allow_unicode=True, width=100)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with files.written(path, "choose another folder with --out") as part:
        part.write_text(f"{_HEAD}sha256: {digest}\n{text}", encoding="utf-8")
    return path, digest


def check_plan(study: Study) -> None:
    """Refuse a plan whose primary metrics are not all there.

    A study file is read where metrics are not known yet.

    Raises
    ------
    StudyError
        One is none.
    """
    for name in study.plan.metrics:
        if name not in METRICS:
            raise StudyError(
                f'{study.path}: plan, metrics: no metric "{name}": {did_you_mean(name, METRICS)}'
            )


def _answers(study: Study, place: str | Path) -> tuple[int, int]:
    """Count what people have answered so far, and the raters whose answers were deleted."""
    if not is_there(place):
        return 0, 0
    with open_store(place) as opened:
        return len(opened.ratings(study.name)), opened.withdrawals(study.name)


def planned(study: Study) -> dict[str, Any]:
    """Return what a study file plans: what a frozen plan is held to."""
    rules, plan = study.ratings, study.plan
    rule = VerdictRule(scale=rules.scale)
    return {
        "hypotheses": [asdict(hypothesis) for hypothesis in plan.hypotheses],
        "primary_criterion": plan.criterion or "all alike",
        "primary_metrics": list(plan.metrics or PRIMARY.values()),
        "tests": "two-sided, 5 % over all rows of a claim (Holm), as tables/findings.csv has them",
        "exclusions": asdict(rules.screening) | {"keep": list(rules.screening.keep)},
        "verdict_rule": rule.words,
        "sample": {
            "raters": plan.raters or rules.raters_min,
            "sessions": rules.sessions,
            "rated_clips_a_session": rules.trials or "one a condition",
            "ratings_per_clip_min": rules.ratings_per_clip_min or "none stated",
            "sources": len(study.sources),
            "drivings": len(study.drivings),
            "methods": [spec.name for spec in study.methods],
            "clips": len(study_clips(study)),
        },
    }


def read_plan(out: Path) -> FrozenPlan | None:
    """Read the plan in a folder of results; None where there is none.

    Raises
    ------
    StudyError
        It is no plan any more.
    """
    path = out / FROZEN
    if not path.is_file():
        return None
    contents = read_yaml(path)
    _, _, text = path.read_text(encoding="utf-8").partition("\nsha256: ")
    digest, _, body = text.partition("\n")
    intact = hashlib.sha256(body.encode()).hexdigest() == digest
    plan = FrozenPlan(digest, intact, contents)
    if not _is_whole(plan):
        raise StudyError(f"{path} is no plan any more: put back what was frozen")
    return plan


def _is_whole(plan: FrozenPlan) -> bool:
    """Say whether a plan's contents, which anybody may have edited, can still be read."""
    try:
        contents = plan.contents
        counts = (plan.late, plan.withdrawn, contents["sample"]["raters"])
        numbers = (*counts, plan.frozen.utcoffset().seconds, len(plan.hypotheses))
        kinds = [contents["inputs"], contents["clips"], {"": contents["study_hash"]}]
        texts = [value for kind in kinds for value in kind.values()]
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return all(isinstance(number, int) for number in numbers) and all(
        isinstance(text, str | None) for text in texts
    )


def departures(
    plan: FrozenPlan,
    study: Study,
    out: Path,
    ratings: pd.DataFrame,
    kept: pd.DataFrame,
    covered: Coverage,
) -> list[str]:
    """Say in a sentence each what was done otherwise than planned.

    Parameters
    ----------
    plan : FrozenPlan
    study : Study
        As its file is now.
    out : Path
        The folder of its results.
    ratings, kept : pandas.DataFrame
        The ratings of all people, and of those who count.
    covered : Coverage
        Of ``kept``.
    """
    found = []
    if not plan.intact:
        found.append(f"{FROZEN} was changed after it was frozen: its SHA-256 is another.")
    first = ratings["answered_at"].min() if len(ratings) else None
    if not plan.late and first is not None and first < pd.Timestamp(plan.frozen):
        found.append(f"The first answer, of {first:%Y-%m-%d %H:%M} UTC, is older than the plan.")
    found += _changed_words(plan, study, ratings)
    found += _changed_files(plan, study, out, ratings)
    wanted, raters = plan.contents["sample"]["raters"], kept["rater"].nunique()
    if raters < wanted:
        found.append(f"Fewer raters: {raters} count, {wanted} were planned.")
    if covered.behind:
        found.append(
            f"Fewer ratings of a clip: {covered.behind} of {covered.clips} clips have less than "
            f"{covered.asked}."
        )
    return found


def outcomes(
    plan: FrozenPlan, findings: pd.DataFrame, of_these: Mapping[str, pd.DataFrame]
) -> list[tuple[Hypothesis, str, str]]:
    """Return each hypothesis with what became of it, and why where it can't be tested.

    Parameters
    ----------
    findings : pandas.DataFrame
        As :func:`studykit.stats.findings` gives them.
    of_these : mapping of pandas.DataFrame
        By claim, the tests on these clips alone (:func:`studykit.stats.pairwise`).
    """
    found = []
    for hypothesis in plan.hypotheses:
        if hypothesis.scope == "like these":
            table = findings.rename(columns={"subject": "first", "versus": "second"})
            table = table[table["claim"] == hypothesis.claim]
            table = table.rename(columns={"estimate": "difference"})
        else:
            table = of_these[hypothesis.claim].rename(columns={"p_holm": "p_adjusted"})
        table = table[table["criterion"] == hypothesis.criterion]
        found.append((hypothesis, *_outcome(hypothesis, table)))
    return found


def is_primary(plan: FrozenPlan | None, findings: pd.DataFrame) -> pd.Series:
    """Say of each finding whether a hypothesis of the plan is about it."""
    asked = {
        (hypothesis.claim, frozenset((hypothesis.higher, hypothesis.lower)), hypothesis.criterion)
        for hypothesis in (plan.hypotheses if plan else ())
        if hypothesis.scope == "like these"
    }
    return pd.Series(
        [
            (row.claim, frozenset((row.subject, row.versus)), row.criterion) in asked
            for row in findings.itertuples()
        ],
        index=findings.index,
        dtype=bool,
    )


def _outcome(hypothesis: Hypothesis, table: pd.DataFrame) -> tuple[str, str]:
    for sign, pair in ((1, (hypothesis.higher, hypothesis.lower)),
                       (-1, (hypothesis.lower, hypothesis.higher))):  # fmt: skip
        for row in table[(table["first"] == pair[0]) & (table["second"] == pair[1])].itertuples():
            if pd.isna(row.p_adjusted):
                return _OPEN, getattr(row, "reason", "") or getattr(row, "words", "")
            if row.p_adjusted >= 0.05:
                return _NOT, ""
            return (_SUPPORTED if sign * row.difference > 0 else _AGAINST), ""
    return _OPEN, "nobody rated both"


def _changed_words(plan: FrozenPlan, study: Study, ratings: pd.DataFrame) -> Iterator[str]:
    """Say what of the plan the study file says otherwise now, and who rated under which version."""
    now, differ = planned(study), []
    for key, value in now.items():
        then = plan.contents.get(key)
        if isinstance(value, dict) and isinstance(then, dict):
            differ += [
                f"{key.replace('_', ' ')}, {part.replace('_', ' ')}: {_shown(value.get(part))} "
                f"instead of {_shown(then.get(part))}"
                for part in {**then, **value}
                if value.get(part) != then.get(part)
            ]
        elif value != then:
            differ.append(f"{key.replace('_', ' ')}: {_shown(value)} instead of {_shown(then)}")
    if differ:
        yield f"The study file says something else now: {'; '.join(differ)}."
    elif study_hash(study) != plan.contents["study_hash"]:
        yield "The study file, or what raters read, was changed in what the plan does not name."
    known = ("", plan.contents["study_hash"])  # ratings from elsewhere may have none
    if others := ratings.loc[~ratings["study_hash"].isin(known), "rater"].nunique():
        raters = "One rater" if others == 1 else f"{others} raters"
        yield f"{raters} answered under another version of the study file."


def _changed_files(
    plan: FrozenPlan, study: Study, out: Path, ratings: pd.DataFrame
) -> Iterator[str]:
    then = plan.contents["inputs"]
    now = {name: files.sha256(path) for name, path in _inputs(study).items()}
    if changed := [name for name in {**then, **now} if then.get(name) != now.get(name)]:
        yield f"Inputs were changed: {_named(changed)}."
    rated = ratings[ratings["role"] == "rating"]
    shown = rated[(rated["clip_hash"] != "") & (rated["other"] == "")]
    by_cell = shown.groupby("cell")["clip_hash"].agg(set).to_dict()
    then = plan.contents["clips"]
    clips = {cell: clip_file(out, cell) for cell in by_cell}
    now = {cell: files.sha256(path) for cell, path in clips.items() if path.is_file()}
    other = [
        cell for cell, hashes in by_cell.items()
        if len(hashes | {its[cell] for its in (then, now) if its.get(cell)}) > 1
    ]  # fmt: skip
    if other:
        yield f"Clips were changed: {_named(other)}."
    seen = {*rated["cell"], *rated["other"]}
    unseen = [cell for cell in then if cell not in seen]
    if unseen and len(rated):
        yield f"{len(unseen)} of {len(then)} planned clips were rated by nobody: {_named(unseen)}."


def _inputs(study: Study) -> dict[str, Path]:
    """Return the files of a study's inputs by what they are."""
    kinds = {"source": study.sources, "driving": study.drivings}
    return {f"{kind} {item.name}": item.path for kind, items in kinds.items() for item in items}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return Hypothesis(**value).words
    return "off" if value is None else str(value)


def _named(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")

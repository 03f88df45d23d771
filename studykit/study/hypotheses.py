"""What a study expects and judges by, said beforehand: the section ``plan`` of the study file."""

from dataclasses import dataclass
from typing import Literal, get_args

from studykit.study.document import MOST, Document
from studykit.study.inputs import Input
from studykit.study.ratings import Ratings

FROZEN = "plan.yaml"  # in the folder of the results

Claim = Literal["method", "source type", "driving type"]
Scope = Literal["like these", "these clips"]


@dataclass(frozen=True)
class Hypothesis:
    """That one method, source type or driving type is rated higher than another.

    Attributes
    ----------
    claim : {"method", "source type", "driving type"}
    higher, lower : str
        Two of a kind.
    criterion : str
    scope : {"like these", "these clips"}
        Whether it speaks of raters, sources and drivings like these, or of these clips alone.
    """

    claim: Claim
    higher: str
    lower: str
    criterion: str
    scope: Scope = "like these"

    @property
    def words(self) -> str:
        """Say it in a sentence's part."""
        noun = "" if self.claim == "method" else f" {self.claim.split()[0]}s"
        speaks = "raters, sources and drivings like these"
        about = speaks if self.scope == "like these" else self.scope
        return f"{self.higher}{noun} above {self.lower}{noun} on {self.criterion} ({about})"


@dataclass(frozen=True)
class Plan:
    """What is planned.

    Attributes
    ----------
    criterion : str
        The primary one; "" where all count alike.
    metrics : tuple of str
        The primary ones; () are studykit's own.
    raters : int
        How many are to be rated by; 0 is the study's ``raters_min``.
    hypotheses : tuple of Hypothesis
    """

    criterion: str = ""
    metrics: tuple[str, ...] = ()
    raters: int = 0
    hypotheses: tuple[Hypothesis, ...] = ()


def read_plan_section(
    document: Document, ratings: Ratings, methods: list[str], inputs: tuple[Input, ...]
) -> Plan:
    """Read the section, whose names must be those of the study.

    Raises
    ------
    StudyFileError
        An unknown key, a wrong value, or a name that the study does not have, with its line.
    """
    where: tuple = ("plan",)
    given = document.mapping(where, known=("criterion", "metrics", "raters", "hypotheses"))
    criteria = tuple(criterion.name for criterion in ratings.asked)
    primary = document.choice((*where, "criterion"), criteria) if "criterion" in given else ""
    levels = {"method": tuple(methods)} | dict.fromkeys(
        ("source type", "driving type"), tuple(dict.fromkeys(item.type for item in inputs))
    )
    found = []
    listed = document.sequence((*where, "hypotheses")) if "hypotheses" in given else ()
    for index in range(len(listed)):
        place = (*where, "hypotheses", index)
        keys = ("claim", "higher", "lower", "criterion", "scope")
        said = document.mapping(place, known=keys, needed=("higher", "lower"))
        claim: Claim = "method"
        if "claim" in said:
            claim = document.choice((*place, "claim"), get_args(Claim))
        scope: Scope = "like these"
        if "scope" in said:
            scope = document.choice((*place, "scope"), get_args(Scope))
        sides = [
            document.choice((*place, key), levels[claim], what=claim) for key in ("higher", "lower")
        ]
        if sides[0] == sides[1]:
            raise document.error((*place, "lower"), f'"{sides[0]}" is compared with itself')
        if "criterion" not in said and not primary:
            text = "a hypothesis needs a criterion, where the plan names no primary one"
            raise document.error(place, text)
        criterion = (
            document.choice((*place, "criterion"), criteria) if "criterion" in said else primary
        )
        found.append(Hypothesis(claim, *sides, criterion, scope))
    return Plan(
        primary,
        document.texts((*where, "metrics")) if "metrics" in given else (),
        document.number((*where, "raters"), low=1, high=MOST) if "raters" in given else 0,
        tuple(found),
    )

"""Links that let raters and authors in: secrets of which only the hash is kept.

A rater's id stands in tables, on pages and in files: it says who rated, and lets nobody in.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeGuard

import sqlalchemy as sa

from studykit.errors import StudyError
from studykit.ratings.database import links
from studykit.ratings.store import Store, check_rater_id, unused_rater_id

Kind = Literal["rater", "panel", "author"]

DAYS = 60  # until a link expires
_SECRET = re.compile(r"[A-Za-z0-9_-]{24}", re.ASCII)


@dataclass(frozen=True)
class Link:
    """What is known of a link, which is all but its secret.

    Attributes
    ----------
    kind : {"rater", "panel", "author"}
        Whom it lets in: one rater, anybody as a new rater, or who runs the study.
    rater : str
        The rater's id; "" of the other kinds.
    outside : str
        A hash of the rater's id elsewhere, such as with a panel; "" if none is known.
    """

    kind: Kind
    rater: str
    outside: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    @property
    def state(self) -> Literal["open", "expired", "revoked"]:
        """Whether it lets anybody in now."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= datetime.now(UTC) else "open"


def new_secret() -> str:
    """Make up a secret that nobody can guess: 144 random bits."""
    return secrets.token_urlsafe(18)


def link_path(kind: Kind, secret: str) -> str:
    """Return where a link leads on the server; what stands after a "#" is sent to no server."""
    return {"rater": "/rate#", "panel": "/join/", "author": "/author#"}[kind] + secret


class Links:
    """The links of a study.

    Parameters
    ----------
    store : Store
    study : str
        Its name.
    """

    def __init__(self, store: Store, study: str) -> None:
        self._store, self._study = store, study

    def make(self, kind: Kind, *, rater: str = "", days: float = DAYS) -> tuple[str, str]:
        """Make a link; return its secret, which is known from nowhere else, and the rater's id.

        Parameters
        ----------
        kind : {"rater", "panel", "author"}
        rater : str
            Whom a rater's link lets in; "" for a new rater.
        days : float
            Until it expires.

        Raises
        ------
        StudyError
            The id may be a name.
        """
        secret = new_secret()
        return secret, self._add(secret, kind, rater, days=days)

    def join(self, secret: str, panel: str, outside: str = "") -> str:
        """Make a new rater who has come by a link for a panel; return the rater's id.

        Parameters
        ----------
        secret : str
            Of the rater's own link, as :func:`new_secret` makes it.
        panel : str
            The panel link's secret.
        outside : str
            The rater's id with the panel, of which a hash is kept; "" where there is none.

        Raises
        ------
        StudyError
            Somebody with that id has joined already.
        """
        hashed = self.outside(panel, outside) if outside else None
        return self._add(secret, "rater", "", outside=hashed)

    def find(self, secret: object) -> Link | None:
        """Return the link with this secret if it lets anybody in now."""
        if not is_secret(secret):
            return None
        link = self._of(secret)
        return link if link is not None and link.state == "open" else None

    def has_withdrawn(self, secret: object) -> bool:
        """Say whether this was the link of a rater who has withdrawn: it names nobody any more."""
        link = self._of(secret) if is_secret(secret) else None
        return link is not None and (link.kind, link.rater) == ("rater", "")

    def with_outside(self, panel: str, outside: str) -> Link | None:
        """Return the link of the rater who has joined under an id of a panel."""
        wanted = {"study": self._study, "outside": self.outside(panel, outside)}
        with self._store.reading() as connection:
            row = connection.execute(_select().filter_by(**wanted)).first()
        return _link(row) if row else None

    def revoke(self, rater: str = "", kind: Kind = "rater") -> int:
        """Close a rater's links, or all of another kind; return how many were open."""
        now = datetime.now(UTC)
        chosen = [links.c.study == self._study, links.c.kind == kind, links.c.revoked_at.is_(None)]
        if kind == "rater":
            chosen.append(links.c.rater == rater)
        with self._store.writing() as connection:
            update = sa.update(links).where(*chosen).values(revoked_at=now)
            return connection.execute(update).rowcount

    def all(self) -> list[Link]:
        """Return every link, the oldest first."""
        with self._store.reading() as connection:
            rows = connection.execute(
                _select().filter_by(study=self._study).order_by(links.c.created_at)
            ).all()
        return [_link(row) for row in rows]

    @staticmethod
    def outside(panel: str, outside: str) -> str:
        """Return what is kept of an id with a panel: a hash that only the panel's link yields."""
        return hmac.new(panel.encode(), outside.encode(), "sha256").hexdigest()

    def _add(
        self, secret: str, kind: Kind, rater: str, *, days: float = DAYS, outside: str | None = None
    ) -> str:
        if rater:
            check_rater_id(rater)
        expires = datetime.now(UTC) + timedelta(days=days)
        row = {"study": self._study, "kind": kind, "outside": outside, "expires_at": expires}
        try:
            with self._store.writing() as connection:
                if kind == "rater" and not rater:
                    rater = unused_rater_id(connection, self._study)
                values = row | {"hash": _hash(secret), "rater": rater or None}
                connection.execute(sa.insert(links).values(values))
        except sa.exc.IntegrityError:
            raise StudyError("somebody with this id has joined already") from None
        return rater

    def _of(self, secret: str) -> Link | None:
        wanted = {"hash": _hash(secret), "study": self._study}
        with self._store.reading() as connection:
            row = connection.execute(_select().filter_by(**wanted)).one_or_none()
        return _link(row) if row else None


def is_secret(text: object) -> TypeGuard[str]:
    """Return whether something can be the secret of a link."""
    return isinstance(text, str) and _SECRET.fullmatch(text) is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _select() -> sa.Select:
    return sa.select(
        *(links.c.kind, links.c.rater, links.c.outside),
        *(links.c.created_at, links.c.expires_at, links.c.revoked_at),
    )


def _link(row: sa.Row) -> Link:
    kind, rater, outside, *moments = row
    return Link(kind, rater or "", outside or "", *moments)

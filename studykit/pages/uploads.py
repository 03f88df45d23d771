"""What visitors of the pages bring: each one's files apart, and gone when they have left."""

import contextlib
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from studykit import files
from studykit.errors import StudyError, did_you_mean
from studykit.study.inputs import slug

Role = Literal["source", "driving"]
_FOLDER, _HERE = "studykit-visitors-", ".here"  # what a server holds a lock on while it is there


@dataclass(frozen=True)
class UploadLimits:
    """What a visitor may bring and keep.

    Attributes
    ----------
    bytes, pixels : int
        Of one file, and of a picture or of a video's frame.
    seconds, frames : int
        Of a driving.
    faces : int
        In a picture.
    files : int
        A visitor's uploads, and as many animations, at one time.
    visitors : int
        At one time.
    away : float
        Seconds after which a visitor who asks for nothing and listens to nothing has left.
    job_seconds : float
        That one animation may take.
    spare : int
        Bytes of the disk that stay free, whatever all visitors bring.
    """

    bytes: int = 200 << 20
    pixels: int = 40_000_000
    seconds: int = 60
    frames: int = 1800
    faces: int = 30
    files: int = 8
    visitors: int = 100
    away: float = 25.0
    job_seconds: float = 3600.0
    spare: int = 1 << 30

    @classmethod
    def named(cls, given: Iterable[str]) -> "UploadLimits":
        """Return the limits with some of them as given, each as "name=number".

        Raises
        ------
        StudyError
            There is no such limit, or it is no number above 0.
        """
        usual, limits = asdict(cls()), {}
        for text in given:
            name, _, number = text.partition("=")
            if name not in usual:
                raise StudyError(f'no limit "{name}": {did_you_mean(name, usual)}')
            if not re.fullmatch(r"\d+", number) or not int(number):
                raise StudyError(f"the limit {name} must be a whole number above 0: {name}=NUMBER")
            limits[name] = int(number)
        return cls(**limits)


class Refused(StudyError):
    """A visitor asks for more than there is, or for what is not theirs.

    Parameters
    ----------
    status : int
        The status of HTTP that says it.
    """

    def __init__(self, text: str, status: int = 422) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Upload:
    """A file that a visitor brought, or an example that they chose.

    Attributes
    ----------
    name : str
        As the visitor calls it; it names no file here.
    path : Path
        What is read.
    folder : Path
        Of what is made of it to be shown, and of the file itself unless it is an example.
    looks : dict
        What was seen in it, as the page gets it.
    scan : Job, optional
        That looks at all frames of a driving.
    """

    id: str
    role: Role
    name: str
    path: Path
    folder: Path
    looks: dict[str, Any] = field(default_factory=dict)
    scan: Any = None

    @property
    def slug(self) -> str:
        """Its name without the suffix, as it may stand in names of files."""
        return slug(Path(self.name).stem)[:40] or self.role

    @property
    def suffix(self) -> str:
        suffix = Path(self.name).suffix or self.path.suffix  # of an example: that of its file
        return re.sub(r"[^.a-z0-9]", "", suffix.lower())[:6]


class Visitor:
    """One browser, or one program, under a name that nobody can guess."""

    def __init__(self, folder: Path, limits: UploadLimits) -> None:
        self.key = secrets.token_urlsafe(24)
        self.folder, self.limits = folder / secrets.token_hex(16), limits
        self.uploads: dict[str, Upload] = {}
        self.jobs: dict[str, Any] = {}
        self.listening = 0
        self.seen = time.monotonic()

    @property
    def kept(self) -> Path:
        """Where what is found in the visitor's files is kept, for as long as they are here."""
        return self.folder / "kept"

    def has_left(self) -> bool:
        return not self.listening and time.monotonic() - self.seen > self.limits.away

    def is_idle(self) -> bool:
        """Say whether nothing is lost with the visitor: they brought nothing, and don't listen."""
        return not (self.uploads or self.jobs or self.listening)

    @contextlib.contextmanager
    def listens(self) -> Iterator[None]:
        """Count as being here while something is sent to the visitor."""
        self.listening += 1
        try:
            yield
        finally:
            self.listening -= 1
            self.seen = time.monotonic()

    def check_disk(self) -> None:
        """Refuse to write more where the disk is nearly full."""
        if shutil.disk_usage(self.folder.parent).free < self.limits.spare:
            raise Refused("the server's disk is full: try again in a few minutes", 507)

    def add(self, role: Role, name: str, example: Path | None = None) -> Upload:
        """Make room for an upload; the caller writes its file.

        Raises
        ------
        Refused
            The visitor has as many files as are kept, or the disk is full.
        """
        self.check_disk()
        if len(self.uploads) >= self.limits.files:
            most = f"at most {self.limits.files} files are kept for each visitor"
            raise Refused(f"{most}: remove one, and bring this one again", 409)
        id = secrets.token_urlsafe(16)
        folder = self.folder / id
        folder.mkdir(parents=True)
        upload = Upload(id, role, shown_name(name, role), example or folder / id, folder)
        self.uploads[id] = upload
        return upload

    def upload(self, id: str) -> Upload:
        """Return one of the visitor's own uploads."""
        if id not in self.uploads:
            raise Refused("this file is not here any more: bring it again", 404)
        return self.uploads[id]

    def remove(self, id: str) -> None:
        """Remove an upload and what was made of it to be shown."""
        if upload := self.uploads.pop(id, None):
            shutil.rmtree(upload.folder, ignore_errors=True)

    def forget(self, id: str) -> None:
        """Remove an animation, which has ended."""
        if self.jobs.pop(id, None):
            shutil.rmtree(self.folder / id, ignore_errors=True)


class Visitors:
    """All who are here, and the folder of their files, which goes with them.

    Parameters
    ----------
    limits : UploadLimits
    on_leave : callable
        Gets a visitor who has left, before their files go.
    """

    def __init__(
        self, limits: UploadLimits, on_leave: Callable[[Visitor], None] = lambda _: None
    ) -> None:
        self.limits, self._on_leave = limits, on_leave
        for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):  # by servers that were killed
            with contextlib.suppress(OSError, StudyError), files.locked(left / _HERE, 0, ""):
                shutil.rmtree(left, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
        self._lock_of_folder = contextlib.ExitStack()
        self._lock_of_folder.enter_context(files.locked(self.folder / _HERE, 0, ""))
        self._here: dict[str, Visitor] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._watch, name="studykit-visitors", daemon=True).start()

    def get(self, key: str) -> Visitor | None:
        """Return the visitor of a key, who is here by asking."""
        with self._lock:
            visitor = self._here.get(key)
            if visitor is not None:
                visitor.seen = time.monotonic()
            return visitor

    def new(self) -> Visitor:
        """Let somebody in, in place of whoever did nothing for longest where there is no room.

        Raises
        ------
        Refused
            There are as many as fit, and all of them do something.
        """
        gone = None
        with self._lock:
            if len(self._here) >= self.limits.visitors:
                idle = [visitor for visitor in self._here.values() if visitor.is_idle()]
                if not idle:
                    raise Refused("too many people are here: try again in a minute", 503)
                gone = self._here.pop(min(idle, key=lambda visitor: visitor.seen).key)
            visitor = Visitor(self.folder, self.limits)
            self._here[visitor.key] = visitor
        if gone is not None:
            self._leave(gone)
        return visitor

    def close(self) -> None:
        """End: everybody leaves."""
        self._closed.set()
        for visitor in list(self._here.values()):
            self._leave(visitor)
        self._lock_of_folder.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self.limits.away / 4)):
            for visitor in list(self._here.values()):
                if visitor.has_left():
                    self._leave(visitor)

    def _leave(self, visitor: Visitor) -> None:
        with self._lock:
            self._here.pop(visitor.key, None)
        self._on_leave(visitor)
        shutil.rmtree(visitor.folder, ignore_errors=True)


def shown_name(name: str, role: Role) -> str:
    """Return the last part of a name that came with a file, without what can't be shown."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in last if c.isprintable()).strip(" .")[:80] or role

"""Any program as a method, so that what people have runs beside the others on the same inputs."""

import contextlib
import glob
import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from studykit.cache import file_hash
from studykit.errors import MediaError, StudyFileError, did_you_mean
from studykit.media import video
from studykit.media.geometry import centre_crop
from studykit.media.views import Driving, Source
from studykit.methods import register
from studykit.study.file import Study

PERMISSION = "STUDYKIT_ALLOW_COMMANDS"
DISK, FILES = 8 << 30, 50_000  # that a program may write: bytes and files
_SUPERVISOR = Path(__file__).with_name("_supervisor.py")
_PLACES = ("source", "driving", "folder", "sound", "source_stem", "driving_stem", "size", "rate")
_SOUND_RATE = 16_000
_VERSION_SECONDS, _LONGEST_LINE = 60.0, 200
_CRF = 8  # what a program is given can't be told from what the study sees
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|_PWD|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)
_SHORTEST_SECRET = 6


class ProgramError(MediaError):
    """A program did not do what was asked; ``log`` is the end of what it printed."""

    def __init__(self, text: str, log: str = "") -> None:
        super().__init__(text)
        self.log = log


@register("command")
@dataclass(frozen=True)
class Command:
    """Run a program on each cell's source and driving, and take the clip that it writes.

    Attributes
    ----------
    run : str
        The program and its arguments, split as a shell would and run without one. ``{source}``,
        ``{driving}`` and ``{folder}``, where it is to write, are filled in; so are
        ``{sound}``, the driving's sound as a WAV file (16 kHz, mono), ``{source_stem}`` and
        ``{driving_stem}``, the inputs' names without suffix, ``{size}`` and ``{rate}``, the study's
        size and the driving's frames a second.
    result : str
        Where in ``{folder}`` its clip then is; ``*`` and ``**`` stand for any name.
    give : {"squares", "files"}
        What it gets: the squares that the study sees, written as PNG and as MP4 with the driving's
        sound, or the inputs' files as they are.
    resample : bool
        Whether a clip of another frame rate that lasts as long as the driving is taken, each frame
        of the driving showing the nearest of the clip's in time; else it is refused.
    cwd : str
        The folder that it runs in.
    env : dict
        What is set beside this process's own environment.
    version : str
        A program whose first line says the version. Without it, the version is the commit of
        ``cwd`` where that is a git repository, or the hash of the files that ``run`` names.
    timeout : float
        Seconds that it may take for a clip.
    device : {"auto", "cpu", "gpu"}
        Where it computes: of those on "gpu" a machine runs one at a time.
    relative : bool
        Whether its clips move as the driving moves from its reference frame on, or stand where the
        driving stands: what metrics take for the truth.

    Raises
    ------
    StudyFileError
        A setting makes no sense, or the program is not there.
    ProgramError
        It fails, takes too long or writes too much, or its clip is not there or not in step.
    """

    run: str
    result: str = "{folder}/*.mp4"
    give: Literal["squares", "files"] = "squares"
    resample: bool = False
    cwd: str = "."
    env: dict = field(default_factory=dict)
    version: str = ""
    timeout: float = 600.0
    device: Literal["auto", "cpu", "gpu"] = "auto"
    relative: bool = True

    at_once = True  # the first frame takes as long as all

    def __post_init__(self) -> None:
        for name, known in (("run", _PLACES), ("result", _PLACES), ("version", ())):
            for place in re.findall(r"\{(\w+)\}", getattr(self, name)):
                if place not in known:
                    hint = did_you_mean(place, known) if known else "it takes none"
                    raise StudyFileError(f"no {{{place}}} in the setting {name}: {hint}")
        inside = re.fullmatch(r"\{folder\}/[^/].*", self.result) and ".." not in self.result
        texts = (str, int, float)
        for right, wrong in (
            (_words("run", self.run), "run is empty: name a program"),
            (_words("version", self.version) or True, ""),
            (inside, f"result must begin with {{folder}}/, not {self.result}"),
            (0 < self.timeout <= 1e6, f"timeout can't be {self.timeout:g} s"),
            (all(isinstance(v, texts) and "=" not in str(k) for k, v in self.env.items()),
             "env takes names and texts, {NAME: text}"),
        ):  # fmt: skip
            if not right:
                raise StudyFileError(f'method "command": {wrong}')

    def check(self) -> None:
        """Refuse a folder, a program or a script that is not there."""
        if not Path(self.cwd).is_dir():
            raise StudyFileError(f"no folder {self.cwd}: check the setting cwd")
        for name in ("run", "version"):
            words = _words(name, getattr(self, name))
            if words and self._program(words[0]) is None:
                raise StudyFileError(
                    f'no program "{words[0]}" for the setting {name}: install it, or name it by '
                    "its path"
                )
            for word in words[1:]:
                if re.fullmatch(r"[^{}]+\.(py|sh)", word) and not self._file(word).is_file():
                    raise StudyFileError(f"no file {self._file(word)}: check the setting {name}")

    def device_used(self) -> str:
        return "" if self.device == "auto" else self.device

    def version_used(self) -> str:
        """Return what says which version of the program makes the clips."""
        self.check()
        if self.version:
            with TemporaryDirectory(prefix="studykit-") as folder:
                words = _words("version", self.version)
                printed = self._run(words, folder, {}, _VERSION_SECONDS)
            line = next((line.strip() for line in printed.splitlines() if line.strip()), "")
            if not line:
                raise StudyFileError(f"`{self.version}` prints no version: set another")
            return line[:_LONGEST_LINE]
        return self._commit() or self._hashed()

    def prepare(self, source: Source) -> Source:
        return source

    def animate(self, state: Source, driving: Driving) -> Iterator[np.ndarray]:
        self.check()
        with TemporaryDirectory(prefix="studykit-", ignore_cleanup_errors=True) as work:
            folder = Path(work, "out")
            folder.mkdir()
            source, moving = self._inputs(state, driving, Path(work))
            size, rate = state.image.shape[0], f"{float(driving.frame_rate):g}"
            sound = Path(work, "sound.wav")
            if "{sound}" in self.run:
                _write_sound(sound, driving)
            given = (source, moving, folder, sound, source.stem, moving.stem, size, rate)
            values = dict(zip(_PLACES, given, strict=True))
            printed = self._run(_words("run", self.run), work, values, self.timeout)
            clip = self._found(folder, values, printed)
            try:
                yield from self._frames(clip, size, driving)
            except MediaError as error:
                text = str(error).replace(str(clip), f"the program's clip {clip.name}")
                raise ProgramError(text, printed) from None

    def _inputs(self, source: Source, driving: Driving, work: Path) -> tuple[Path, Path]:
        """Return the files that the program gets; a source that is a frame is always a square."""
        files, still, moving = self.give == "files", work / "source.png", work / "driving.mp4"
        if files and source.path is not None:
            still = source.path.resolve()
        else:
            video.write_image(still, source.image)
        if files and driving.path is not None:
            return still, driving.path.resolve()
        like = driving.path if driving.whole else None
        video.write_video(moving, driving, frame_rate=driving.frame_rate, like=like,
                          like_from=driving.first, crf=_CRF)  # fmt: skip
        return still, moving

    def _run(self, words: list[str], work: str, values: Mapping, seconds: float) -> str:
        """Run a program until it ends, and return the end of what it printed, without secrets."""
        environment = {**os.environ, **{str(k): str(v) for k, v in self.env.items()}}
        run = [str(self._program(words[0])), *(_filled(word, values) for word in words[1:])]
        asked = {"run": run, "cwd": str(Path(self.cwd).resolve()), "env": environment,
                 "folder": work, "seconds": seconds, "bytes": DISK, "files": FILES}  # fmt: skip
        command, pipe = [sys.executable, "-I", "-S", str(_SUPERVISOR)], subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
        ) as supervisor:
            try:
                supervisor.stdin.write(json.dumps(asked).encode() + b"\n")
                supervisor.stdin.flush()
                answer = supervisor.stdout.read()
            finally:
                with contextlib.suppress(OSError):
                    supervisor.stdin.close()  # ends the program, if anything interrupts this
                supervisor.wait()
        ended = json.loads(answer or b'{"why": "was ended from outside"}')
        printed = _without_secrets(ended.get("printed", ""), environment)
        why = ended["why"] or (ended["code"] and f"ended with code {ended['code']}")
        if why:
            lines = [line.strip() for line in printed.splitlines() if line.strip()]
            last = f" ({lines[-1][:_LONGEST_LINE]})" if lines else ", and printed nothing"
            hint = ": raise the setting timeout" if ended["why"].startswith("took") else ""
            raise ProgramError(f"{Path(words[0]).name} {why}{last}{hint}", printed)
        return printed

    def _found(self, folder: Path, values: Mapping, printed: str) -> Path:
        """Return the clip that a program has left."""
        escaped = {name: glob.escape(str(value)) for name, value in values.items()}
        pattern = _filled(self.result.removeprefix("{folder}/"), escaped)
        found = sorted(itertools.islice((p for p in folder.glob(pattern) if p.is_file()), 100))
        if len(found) != 1:
            others = found or [p for p in itertools.islice(folder.rglob("*"), 100) if p.is_file()]
            names = ", ".join(str(path.relative_to(folder)) for path in others[:3]) or "nothing"
            count = f"{len(found)} clips" if found else "no clip"
            raise ProgramError(
                f"the program left {count} under {self.result} but {names}: name the one by the "
                "setting result",
                printed,
            )
        if not found[0].resolve().is_relative_to(folder.resolve()):
            raise ProgramError(f"{found[0].name} leads out of {{folder}}, where a clip must lie")
        return found[0]

    def _frames(self, clip: Path, size: int, driving: Driving) -> Iterator[np.ndarray]:
        """Yield the frame of a clip that belongs to each of the driving's."""
        info, count = video.probe(clip), driving.frame_count
        whole, shown = count, list(range(count))
        if self.give == "files" and driving.path is not None:
            whole = video.probe(driving.path).frame_count
        if info.frame_count == whole != count:  # it shows what the study leaves out, too
            shown = [driving.number(index) for index in shown]
        elif info.frame_count != count:
            places = [driving.number(i) for i in shown] if whole != count else shown
            shown = self._nearest(info, places, whole, driving)
        elif not driving.has_rate(info.frame_rate):
            driving.notes.append(
                f"the program's clip has {float(info.frame_rate):g} frames/s: it was taken frame "
                "for frame"
            )
        if info.width != info.height:
            size_of = f"{info.width} x {info.height}"
            driving.notes.append(f"the program's clip is {size_of}: its centred square is shown")
        crop = centre_crop((info.height, info.width))
        with contextlib.closing(video.read_frames(clip)) as frames:
            for frame in video.picked(frames, shown):
                yield crop.apply(frame, size)
            for _ in frames:  # damage shows at the end
                pass

    def _nearest(
        self, info: video.VideoInfo, places: list[int], whole: int, driving: Driving
    ) -> list[int]:
        """Return which frame of a clip is shown in the middle of each of the driving's."""
        theirs, ours = float(info.frame_rate), float(driving.frame_rate)
        lasts = info.frame_count / theirs, whole / ours
        near = abs(lasts[0] - lasts[1]) <= 1.5 / min(theirs, ours)
        counts = (
            f"the program's clip has {info.frame_count} frames at {theirs:g} frames/s, the driving "
            f"{whole} at {ours:g}"
        )
        if not near or not self.resample:
            hint = ", or set resample: true to take the nearest in time" if near else ""
            raise ProgramError(f"{counts}: let it write one frame a driving frame{hint}")
        driving.notes.append(f"{counts}: each shows the nearest in time")
        times = [(place + 0.5) / ours for place in places]
        return [min(int(time * theirs), info.frame_count - 1) for time in times]

    def _program(self, word: str) -> str | None:
        """Return where a program lies: on the path, or named from the folder that it runs in."""
        named = os.sep in word or "/" in word
        path = self.env.get("PATH", os.environ.get("PATH"))
        return shutil.which(str(self._file(word)) if named else word, path=path)

    def _file(self, word: str) -> Path:
        return Path(self.cwd).absolute() / word

    def _commit(self) -> str:
        """Return the commit of a git repository and what has changed since, "" if it is none."""
        if not self._file(".git").exists() or shutil.which("git") is None:
            return ""

        def git(*words: str) -> bytes:
            command = ["git", "-C", self.cwd, *words]
            return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

        try:
            commit, changes = git("rev-parse", "HEAD").decode().strip(), git("diff", "HEAD")
        except (subprocess.SubprocessError, OSError):
            return ""
        digest = hashlib.sha256(changes).hexdigest()[:12]
        return f"commit {commit}" + (f" with changes {digest}" if changes else "")

    def _hashed(self) -> str:
        """Return a hash of the program and of the files that are named with it."""
        first, *others = _words("run", self.run)
        files = [Path(str(self._program(first))), *map(self._file, others)]
        there = [file_hash(path) for path in files if path.is_file()]
        return f"files {hashlib.sha256(''.join(there).encode()).hexdigest()[:16]}"


def _write_sound(path: Path, driving: Driving) -> None:
    """Write what is heard while a driving's frames are shown."""
    most = round(driving.frame_count / driving.frame_rate * _SOUND_RATE)
    heard = driving.path is not None and driving.whole
    pieces = video.read_sound(driving.path, first=driving.first, rate=_SOUND_RATE) if heard else ()
    sound = np.concatenate([np.zeros(0, "f4"), *pieces])[:most]
    if not len(sound):
        raise ProgramError(f"{driving.name} has no sound, which the program asks for")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, _SOUND_RATE, 0, "NONE", ""))
        file.writeframes((sound.clip(-1, 1) * 32767).astype("<i2").tobytes())


def allowed() -> bool:
    """Say whether a study file may have programs run."""
    return os.environ.get(PERMISSION, "") == "1"


def programs_of(study: Study) -> dict[str, str]:
    """Return what each method of a study would have run on this machine, by its name there."""
    found = {}
    for spec in study.methods:
        if spec.method == "command":
            programs = [str(spec.settings.get(name, "")) for name in ("run", "version")]
            shown = " and ".join(f"`{text}`" for text in programs if text)
            given = "".join(
                f" with {k}={v}" for k, v in dict(spec.settings.get("env") or {}).items()
            )
            cwd = spec.settings.get("cwd", ".")
            found[spec.name] = f"line {spec.line}: {spec.name} runs {shown} in {cwd}{given}"
    return found


def _words(name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise StudyFileError(f'method "command": {name} can\'t be split ({error})') from None


def _filled(word: str, values: Mapping) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), word)


def _without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Cross out the values of variables whose names speak of secrets."""
    secrets = [
        value
        for name, value in environment.items()
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET
    ]
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, "***")
    return text

# ruff: noqa: E501 (tokens and formats a line)
"""Random damage to what people hand in: pictures, videos, checkpoints, study files.

    python -m tests.attacks.fuzz [--cases 2000] [--seed 0] [--keep FOLDER]

Each case is a good file with seeded damage. It must be read, or refused in one line: no other error,
no crash, no more than two seconds of this process (decoding happens in another), nothing run, no
file beside it. Cases run in processes of their own, so that a crash is a case that failed; whatever
fails is kept in the folder. The last line counts; the exit code is 1 where anything failed.
"""

import argparse
import collections
import contextlib
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from studykit.errors import StudyError
from tests.attacks import test_checkpoints, test_media, test_study_files

SECONDS = 2.0  # of this process's processor time
KINDS = {"picture": 0.3, "video": 0.2, "checkpoint": 0.25, "study": 0.25}
_CONFIG = [
    b"1e9",
    b"-1",
    b"1e-9",
    b"NaN",
    b"Infinity",
    b"[]",
    b"{}",
    b"null",
    b"9" * 20,
    b"true",
    b'"a"',
]
_EXTREMES = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
)
_TOKENS = {
    "study": [
        b"&a ", b"*a", b"<<: ", b"[", b"]", b"{", b"}", b"- ", b"? ", b": ", b"!!python/name:os.system ",
        b"!!binary ", b"!!set ", b"9" * 400, b".inf", b".nan", b"-1", b"1e9", b"2026-13-45", b"\t",
        b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"'", b"|\n", b">\n", b"%YAML 9.9\n", b"---\n", b"~", b"\\0",
        b"a" * 5000, b"../" * 2000, b"[" * 300, b"\xc3\xa9", b"e\xcc\x81",
    ],
    "checkpoint": [
        b"2\x86", b"\x85", b"N", b"}", b"]", b"(", b"t", b"R", b"b", b"s", b"u", b"\x81", b"\x92", b"\x93",
        b"cos\nsystem\n", b"cbuiltins\neval\n", b"\x8f", b"\x90", b"\x96", b"\x8b\xff\xff\xff\x7f", b"Q", b"P0\n",
        b"r\xff\xff\xff\x7f", b"h\0", b"0", b"1", b"2" * 50, b'"F32"', b'"dtype"', b"[-1]", b"data.pkl",
        b"X\4\0\0\0evil", b"\x82\1", b".",
    ],
}  # fmt: skip


def good(kind: str, folder: Path) -> list[bytes]:
    """Return good files of a kind, small ones."""
    if kind == "picture":
        kinds = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "JPEG2000")
        return [test_media.saved(name) for name in kinds]
    if kind == "video":
        return list(_videos(folder))
    if kind == "study":
        others = [content for content, _ in test_study_files.ATTACKS.values()]
        texts = [test_study_files.GOOD, *test_study_files.GOOD_ONES.values(), *others]
        given = [text if isinstance(text, bytes) else text.encode() for text in texts]
        return [text for text in given if len(text) < 5000] + given[:1] * 200
    return _checkpoints(folder)


def _checkpoints(folder: Path) -> list[bytes]:
    from studykit.methods import checkpoint_files
    from studykit.methods.random_weights import SMALL, random_checkpoint

    made = random_checkpoint(SMALL)  # which animates
    checkpoint_files.save(made, folder / "good.safetensors")
    usable = [(folder / "good.safetensors").read_bytes(), pickle.dumps(made.networks, 2)]
    (folder / "good.safetensors").unlink()
    networks = {part: {f"{n}.weight": np.ones((2, 3), "f4") for n in range(4)}
                for part in test_checkpoints.PARTS}  # fmt: skip
    header = test_checkpoints.entry() | {"__metadata__": {"config": json.dumps({"size": 64})}}
    hostile = [content for content, _ in test_checkpoints.ATTACKS.values() if len(content) < 5000]
    whole = [
        *(pickle.dumps(networks, protocol) for protocol in range(6)),
        test_checkpoints.ZIP,
        test_checkpoints.LEGACY,
        *[test_checkpoints.safetensors(header)] * 3,
    ]
    return usable * 60 + whole * 12 + hostile


def _videos(folder: Path) -> Iterator[bytes]:
    import av

    rolled = (
        np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    )
    for suffix, codec in (
        ("mp4", "libx264"), ("mov", "mpeg4"), ("avi", "mjpeg"), ("mkv", "ffv1"), ("ts", "mpeg2video"),
        ("webm", "libvpx"), ("flv", "flv"), ("gif", "gif"), ("wmv", "wmv2"),
    ):  # fmt: skip
        path = folder / f"good.{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=Fraction(25))
            stream.width, stream.height = 128, 96
            stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
            sound = (
                container.add_stream("aac", rate=44100) if suffix in ("mp4", "mov", "mkv") else None
            )
            for number in range(8):
                frame = av.VideoFrame.from_ndarray(np.roll(rolled, 4 * number, 1), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound is not None:
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, 14112), np.float32), "fltp", "mono")
                quiet.sample_rate = 44100
                container.mux(sound.encode(quiet))
                container.mux(sound.encode(None))
        yield path.read_bytes()
        path.unlink()


def damaged(files: list[bytes], kind: str, chance: random.Random) -> bytes:
    """Return one of the files with one to six damages of several sorts."""
    data = bytearray(chance.choice(files))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        at = chance.randrange(len(data) + 1)
        length = chance.choice((1, 2, 4, 16, 100, 1000))
        other = chance.choice(files)
        start = chance.randrange(len(other) + 1)
        what = chance.randrange(9)
        if kind == "checkpoint" and chance.random() < 0.3 and b"_cfg" in data[:50_000]:
            values = list(re.finditer(rb"(?<=: )[\w.]+", data[:50_000]))
            if values:
                found, value = chance.choice(values), chance.choice(_CONFIG)
                length = int.from_bytes(data[:8], "little") + len(value) - len(found[0])
                data[found.start() : found.end()] = value
                data[:8] = length.to_bytes(8, "little", signed=True)
        elif what == 0 and data:
            for _ in range(chance.randrange(1, 20)):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif what == 1:
            data[at : at + length] = chance.randbytes(length)
        elif what == 2:
            data[at:at] = chance.randbytes(length)
        elif what == 3:
            del data[at : at + length]
        elif what == 4:
            del data[at:]
        elif what == 5:
            data[at:at] = data[start : start + length] * chance.choice((1, 2, 50))
        elif what == 6:
            data[at : at + length] = other[start : start + length]
        elif what == 7:
            data[at : at + 4] = chance.choice(_EXTREMES)
        elif kind in _TOKENS:
            data[at:at] = chance.choice(_TOKENS[kind]) * chance.choice((1, 1, 2, 30))
    return bytes(data[:1_000_000])


def reader(kind: str) -> Callable[[Path], object]:
    """Return what the product does with a file of a kind."""
    if kind == "picture":
        return test_media.video.read_image
    if kind == "video":
        return test_media.frames_of
    if kind == "study":
        return test_study_files.load
    from studykit.methods._fomm_dygraph import load_networks

    return lambda path: load_networks(str(path), None, "cpu", 64)


def work(kind: str, seed: int, first: int, last: int, folder: Path) -> None:
    """Run cases, and print a line before and after each."""
    cases = folder / "cases"
    cases.mkdir(exist_ok=True)
    os.chdir(folder)
    files, read = good(kind, folder), reader(kind)
    for name in ("anna.png", "berta.png", "talk.mp4", "turn.mp4"):
        (cases / name).touch()
    before = set(cases.iterdir())
    path = cases / f"case.{ {'study': 'yaml', 'picture': 'png', 'video': 'mp4'}.get(kind, 'pth') }"
    for content in set(files):  # so that what is imported late is there before anybody listens
        path.write_bytes(content)
        with contextlib.suppress(StudyError):
            read(path)
    ran: list[str] = []
    sys.addaudithook(lambda event, arguments: _heard(event, arguments, ran))
    for number in range(first, last):
        path.write_bytes(damaged(files, kind, random.Random(f"{seed} {kind} {number}")))
        print(json.dumps({"begins": number}), flush=True)
        signal.alarm(150)
        start, problem, outcome = time.process_time(), "", "read"
        try:
            read(path)
        except StudyError as error:
            outcome = "refused"
            if "\n" in str(error) or len(str(error)) > 8000:
                problem = f"not one line: {str(error)[:300]!r}"
        except Exception:
            problem = traceback.format_exc()
        signal.alarm(0)
        spent = time.process_time() - start
        if spent > SECONDS:
            problem = f"{spent:.1f} s; {problem}"
        if ran:
            problem = f"ran {ran[:3]}; {problem}"
            ran.clear()
        if beside := set(cases.iterdir()) - before - {path}:
            problem = f"left {beside}; {problem}"
        if problem:
            (folder / f"failed-{number}{path.suffix}").write_bytes(path.read_bytes())
        print(json.dumps({"ends": outcome, "problem": problem, "seconds": spent}), flush=True)


def _heard(event: str, arguments: tuple, ran: list[str]) -> None:
    if event == "subprocess.Popen":
        if "studykit.media" not in str(arguments[1]):  # where media are decoded
            ran.append(f"{event} {arguments[1]}")
    elif event in (
        "os.system",
        "os.exec",
        "os.spawn",
        "os.startfile",
        "socket.connect",
        "os.remove",
    ):
        if event != "os.remove" or "cache" not in str(arguments[0]):
            ran.append(f"{event} {arguments}")
    elif event == "exec" and not getattr(arguments[0], "co_filename", "<").endswith(".py"):
        ran.append(f"{event} {arguments}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="Of one kind alone.")
    parser.add_argument("--keep", type=Path, default=Path("reports/fuzz"))
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        kind, first, last, folder = given.work
        work(kind, given.seed, int(first), int(last), Path(folder))
        return
    counts: collections.Counter = collections.Counter()
    slowest = 0.0
    for kind, share in ({given.kind: 1.0} if given.kind else KINDS).items():
        number, last = 0, round(given.cases * share)
        while number < last:
            with tempfile.TemporaryDirectory() as folder:
                place = ["--seed", str(given.seed), "--work", kind, str(number), str(last), folder]
                worker = subprocess.Popen(
                    [sys.executable, "-m", "tests.attacks.fuzz", *place],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    env=os.environ | {"STUDYKIT_CACHE": f"{folder}/cache"},
                )  # fmt: skip
                at_hand, problem = None, ""
                for line in worker.stdout:
                    said = json.loads(line)
                    if "begins" in said:
                        at_hand = said["begins"]
                        continue
                    counts[f"{kind} files {said['ends']}"] += 1
                    slowest = max(slowest, said["seconds"])
                    number, problem = at_hand + 1, said["problem"]
                    if problem:
                        _keep(given.keep, folder, kind, at_hand, problem)
                        counts["failed"] += 1
                    at_hand = None
                said = worker.communicate()[1]
                if worker.returncode or at_hand is not None:
                    if at_hand is None:
                        sys.exit(f"no case was run: {said[-2000:]}")
                    problem = f"the process ended with {worker.returncode}: {said[-1000:]}"
                    _keep(given.keep, folder, kind, at_hand, problem)
                    counts["failed"] += 1
                    number = at_hand + 1
    print(f"{counts.total() - counts['failed']} cases, {counts.pop('failed', 0)} failed; slowest "
          f"{slowest:.2f} s; " + ", ".join(f"{n} {name}" for name, n in sorted(counts.items())))  # fmt: skip
    sys.exit(given.keep.is_dir() and any(given.keep.iterdir()))


def _keep(keep: Path, folder: str, kind: str, number: int, problem: str) -> None:
    print(f"{kind} {number}: {problem}", flush=True)
    keep.mkdir(parents=True, exist_ok=True)
    # Where the process died, the case at hand is the one that lies there.
    for case in [*Path(folder).glob(f"failed-{number}.*"), *Path(folder, "cases").glob("case.*")][
        :1
    ]:
        (keep / f"{kind}-{number}{case.suffix}").write_bytes(case.read_bytes())


if __name__ == "__main__":
    main()

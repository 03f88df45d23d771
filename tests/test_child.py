"""Decoding in a child: what goes wrong there is one line here, and the next file is read again."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from skimage.data import astronaut

from studykit.errors import MediaError
from studykit.media import child
from studykit.media.video import probe, read_frames, read_image, write_image, write_video

resource = pytest.importorskip("resource", reason="Windows limits wall time alone")


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, (np.full((64, 64, 3), i, np.uint8) for i in range(100)), frame_rate=25)
    return path


@pytest.fixture
def fresh(monkeypatch):
    """No child is waiting, and those of the test go with it."""
    child._end_all()
    yield monkeypatch
    child._end_all()


def own_children() -> list[int]:
    """Return the processes that decode for this one."""
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # another one has ended meanwhile
            if any("media.child" in word for word in process.cmdline()):
                found.append(process.pid)
    return sorted(found)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (signal.SIGSEGV, r"its decoder crashed \(SIGSEGV\)"),
        (signal.SIGABRT, r"its decoder crashed \(SIGABRT\)"),
        (signal.SIGXCPU, "took more than 60 s of processor time"),
    ],
)
def test_a_decoder_that_crashes_is_one_line_and_the_next_file_is_read(video, fresh, sent, says):
    frames = read_frames(video)
    next(frames)
    (pid,) = own_children()
    os.kill(pid, sent)
    with pytest.raises(MediaError, match=says) as caught:
        list(frames)
    assert str(video) in str(caught.value) and "\n" not in str(caught.value)
    assert len(list(read_frames(video))) == 100


def test_a_decoder_that_hangs_is_ended(video, fresh):
    frames = read_frames(video)
    next(frames)
    (pid,) = own_children()
    fresh.setattr(child, "WALL", 0.5)
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(MediaError, match=r"no answer within 0\.5 s"):
        list(frames)
    assert time.monotonic() - start < 10
    assert own_children() == []


def test_memory_and_processor_time_are_limited(video, fresh):
    assert child.limits() == ["memory", "processor time", "wall time"]
    assert probe(video).frame_count == 100
    (pid,) = own_children()
    assert resource.prlimit(pid, resource.RLIMIT_AS)[0] == child.MEMORY
    soft, _ = resource.prlimit(pid, resource.RLIMIT_CPU)
    assert child.PROCESSOR <= soft <= 2 * child.PROCESSOR


def test_what_takes_too_much_memory_is_one_line(tmp_path, fresh):
    write_image(tmp_path / "large.png", np.zeros((6000, 6000, 3), np.uint8))
    fresh.setattr(child, "MEMORY", 500 << 20)
    with pytest.raises(MediaError, match="takes more than 500 MiB"):
        read_image(tmp_path / "large.png")
    write_image(tmp_path / "small.png", astronaut())
    assert (read_image(tmp_path / "small.png") == astronaut()).all()


def test_a_child_serves_one_file_after_the_other(video, fresh):
    for _ in range(3):
        probe(video)
        assert len(list(itertools.islice(read_frames(video), 3))) == 3
        with pytest.raises(MediaError):
            read_image(video)
    assert len(own_children()) == 1


def test_two_videos_are_read_side_by_side(video, fresh):
    for first, second in zip(read_frames(video), read_frames(video), strict=True):
        assert (first == second).all()
    assert len(own_children()) == 2


def test_children_end_with_their_parent_however_it_ends(video):
    code = (
        "import os, signal, sys\n"
        "from studykit.media.video import read_frames\n"
        "frames = read_frames(sys.argv[1]); next(frames)\n"
        "import studykit.media.child as c\n"
        "print(open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    own_children()
    done = subprocess.run(
        [sys.executable, "-c", code, video], capture_output=True, text=True, check=False
    )
    (pid,) = done.stdout.split()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("read", [read_image, probe, lambda path: next(read_frames(path))])
def test_what_is_no_file_is_refused_at_once(tmp_path, read):
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    for path, says in (
        (pipe, "is a named pipe"),
        (Path("/dev/zero"), "is a device"),
        (tmp_path, "is a folder"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "a\0b.png", "null byte"),
    ):
        start = time.monotonic()
        with pytest.raises(MediaError, match=says) as caught:
            read(path)
        assert time.monotonic() - start < 20 and "\n" not in str(caught.value)


def test_a_name_of_any_bytes_is_read(tmp_path):
    for name in ("Frau 👩.png", "हिन्दी.png", os.fsdecode(b"\xff\xfe.png")):
        write_image(tmp_path / name, astronaut()[:64, :64])
        assert read_image(tmp_path / name).shape == (64, 64, 3)
        clip = (tmp_path / name).with_suffix(".mp4")
        write_video(clip, [astronaut()[:64, :64]] * 2, frame_rate=25)
        assert probe(clip).frame_count == 2

# ruff: noqa: E501 (an attack a line)
"""Hostile pictures and videos: each is one line or the right frames; nothing runs or hangs."""

import io
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studykit.errors import MediaError
from studykit.media import video

# Without a process that decodes apart, these would do what they are made for.
pytest.importorskip("studykit.media.child", reason="media are not decoded apart yet")

FRAMES = 12
GREY = Image.fromarray(np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8))


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    GREY.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, data: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\n(victim.txt) deletefile\nshowpage\n"
PNG, JPEG = saved("PNG"), saved("JPEG")
BOMB = zlib.compress(bytes(200_000_000), 9)
DAMAGED = "damaged|not an image|million pixels|is empty|is a video"

PICTURES: dict[str, tuple[bytes, str]] = {
    "PostScript that deletes": (EPS, DAMAGED),
    "PostScript that never ends": (EPS.replace(b"(victim.txt) deletefile", b"{} loop"), DAMAGED),
    "PostScript in a DOS header": (b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(EPS)) + bytes(18) + EPS, DAMAGED),
    "PostScript after a byte": (b"\x04" + EPS, DAMAGED),
    "Pillow's own EPS": (saved("EPS"), DAMAGED),
    "PDF": (saved("PDF"), DAMAGED),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", DAMAGED),
    "an XPM": (b'/* XPM */\nstatic char *a[] = {"1 1 1 1", "a c #fff", "a"};', DAMAGED),
    "an X bitmap": (b"#define a_width 1\n#define a_height 1\nstatic char a_bits[] = {0x00};", DAMAGED),
    "an ICNS": (saved("ICNS"), DAMAGED),
    "an icon": (saved("ICO"), DAMAGED),
    "an IM": (saved("IM"), DAMAGED),
    "a PCX": (saved("PCX"), DAMAGED),
    "an SGI": (saved("SGI"), DAMAGED),
    "a SPIDER": (b"\0" * 1200, DAMAGED),
    "a WMF": (b"\xd7\xcd\xc6\x9a" + bytes(200), DAMAGED),
    "a PSD": (b"8BPS\0\1" + bytes(100), DAMAGED),
    "a DDS": (b"DDS \x7c\0\0\0" + b"\xff" * 200, DAMAGED),
    "a FITS": (b"SIMPLE  =                    T".ljust(2880), DAMAGED),
    "a Windows cursor": (b"\0\0\2\0\1\0" + bytes(40), DAMAGED),
    "an HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), DAMAGED),
    "nothing": (b"", DAMAGED),
    "one byte": (b"\x89", DAMAGED),
    "a page": (b"<html>Sign in</html>", DAMAGED),
    "zeros": (bytes(100_000), DAMAGED),
    "a signature alone": (PNG[:8], DAMAGED),
    "60,000 x 60,000 pixels": (png(60_000, 60_000, data=BOMB), DAMAGED),
    "2**31 pixels wide": (png(2**31 - 1, 1, data=b"x"), DAMAGED),
    "no pixels": (png(0, 0), DAMAGED),
    "no data": (png(64, 64), DAMAGED),
    "a bomb among its texts": (png(64, 64, chunk(b"zTXt", b"a\0\0" + BOMB)), DAMAGED),
    "a bomb as its profile": (png(64, 64, chunk(b"iCCP", b"a\0\0" + BOMB)), DAMAGED),
    "a bomb as its international text": (png(64, 64, chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB)), DAMAGED),
    "a chunk of 2 GB": (PNG[:8] + struct.pack(">I", 2**31 - 1) + b"IDAT", DAMAGED),
    "a PNG whose sum is wrong": (PNG.replace(b"IHDR\0\0\0\x40", b"IHDR\0\0\0\x41"), DAMAGED),
    "a JPEG of 65,500 x 65,500": (JPEG.replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 65_500, 65_500)), DAMAGED),
    "a JPEG without its data": (JPEG[: JPEG.index(b"\xff\xda")], DAMAGED),
    "a TIFF of 2**31 rows": (saved("TIFF").replace(struct.pack("<H", 48) + b"\0\0", struct.pack("<I", 2**31 - 1), 1), DAMAGED),
    "a TIFF that points at itself": (b"II*\0\x08\0\0\0\x01\0\0\1\3\0\1\0\0\0\1\0\0\0\x08\0\0\0", DAMAGED),
    "a GIF of 65,535 x 65,535": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2\x44\1\0;", DAMAGED),
    "a PPM of 10**9 pixels": (b"P6 100000 100000 255\n", DAMAGED),
    "a PPM of endless digits": (b"P6 " + b"9" * 10_000, DAMAGED),
    "a BMP below zero": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, -64, -64, 1, 24, 0, 0, 0, 0, 0, 0), DAMAGED),
    "a TGA of nothing": (bytes(12) + b"\xff\xff\xff\xff\x18\0", DAMAGED),
    "a WebP whose size is wrong": (saved("WEBP")[:20] + bytes(30), DAMAGED),
    "a JPEG 2000 cut": (saved("JPEG2000")[:60], DAMAGED),
    **{f"a {kind} cut at {share} in 8": (saved(kind)[: len(saved(kind)) * share // 8], DAMAGED)
       for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP") for share in (1, 3, 5)},
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    chance = np.random.default_rng(0)
    background = chance.integers(0, 255, (8, 10, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    video.write_video(
        path, (np.roll(background, n, 1) for n in range(FRAMES)), frame_rate=Fraction(25)
    )
    return path.read_bytes()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim.txt").write_text("there")
    yield
    assert (tmp_path / "victim.txt").read_text() == "there"


def refused(path: Path, read: Callable[[Path], object], says: str) -> None:
    before = set(path.parent.iterdir())
    with pytest.raises(MediaError, match=says) as error:
        read(path)
    line = str(error.value)
    assert "\n" not in line and path.name[:40] in line and len(line) < 6000
    assert set(path.parent.iterdir()) == before


def frames_of(path: Path) -> int:
    info = video.probe(path)
    count = sum(1 for _ in video.read_frames(path))
    assert count == info.frame_count
    return count


@pytest.mark.parametrize(("content", "says"), PICTURES.values(), ids=PICTURES)
def test_a_hostile_picture_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "face.png").write_bytes(content)
    refused(tmp_path / "face.png", video.read_image, says)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "txt", "eps"])
def test_a_picture_is_read_by_what_it_is(tmp_path: Path, kind: str, suffix: str) -> None:
    (tmp_path / f"face.{suffix}").write_bytes(saved(kind))
    image = video.read_image(tmp_path / f"face.{suffix}")
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - np.asarray(GREY)).mean() < 12


NO_VIDEO = "damaged|not a video|no video|can't be read|is empty|is a still image"
TEXTS = {
    "a concat list": b"ffconcat version 1.0\nfile 'clip.mp4'\n",
    "a concat list of devices": b"ffconcat version 1.0\nfile '/dev/zero'\n",
    "an HLS playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n",
    "an HLS playlist of a web page": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "a DASH manifest": b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period/></MPD>",
    "a session": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "subtitles": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "other subtitles": b"[Script Info]\nTitle: a\n[Events]\nDialogue: 0,0:00:00.00,0:00:01.00,a,,0,0,0,,b\n",
    "words": b"just words\n" * 200,
    "art for terminals": b"\x1b[31m" + b"\xdb" * 4000,
    "a program": b"#!/bin/sh\nrm victim.txt\n",
    "PostScript": EPS,
    "zeros": bytes(100_000),
    "nothing": b"",
    "a picture": PNG,
    "another picture": JPEG,
    "a MIDI": b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0",
    "a WAV": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0",
    "a zip": b"PK\x03\x04" + bytes(100),
    "brackets": b"ftyp" + b"[" * 10_000,
    "a file of metadata": b";FFMETADATA1\ntitle=a\n",
    "an index of pictures": b"%03d.png\n",
}  # fmt: skip


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_what_is_no_video_is_one_line(tmp_path: Path, clip: bytes, content: bytes) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip)
    (tmp_path / "talk.mp4").write_bytes(content)
    refused(tmp_path / "talk.mp4", frames_of, NO_VIDEO)


def replaced(clip: bytes, box: bytes, at: int, data: bytes) -> bytes:
    """Return a clip in which a box's content is other from some byte on."""
    place = clip.index(box) + 4 + at
    return clip[:place] + data + clip[place + len(data) :]


MENDED = {
    "no index": lambda clip: clip.replace(b"moov", b"free"),
    "no data": lambda clip: clip.replace(b"mdat", b"free"),
    "no type": lambda clip: clip.replace(b"stsd", b"free"),
    "2**31 samples": lambda clip: replaced(clip, b"stsz", 8, b"\x7f\xff\xff\xff"),
    "samples of 2 GB": lambda clip: replaced(clip, b"stsz", 4, b"\x7f\xff\xff\xff"),
    "no samples": lambda clip: replaced(clip, b"stsz", 8, bytes(4)),
    "samples beyond the end": lambda clip: replaced(clip, b"stco", 8, b"\x7f\xff\xff\xff"),
    "65,535 x 65,535 pixels": lambda clip: replaced(clip, b"avc1", 24, b"\xff\xff\xff\xff"),
    "a box of 2**63 bytes": lambda clip: clip.replace(b"\0\0\0\x08free", b"\0\0\0\1free", 1)[:40] + b"\x7f" + b"\xff" * 7,
    "a box of no bytes": lambda clip: replaced(clip, b"moov", -8, bytes(4)),
    "its end cut": lambda clip: clip[: len(clip) * 2 // 3],
    "its start cut": lambda clip: clip[100:],
    "half of it zeros": lambda clip: clip[: len(clip) // 2] + bytes(len(clip) // 2),
    "its data noise": lambda clip: replaced(clip, b"mdat", 0, random.Random(1).randbytes(clip.index(b"moov") - clip.index(b"mdat") - 12 if clip.index(b"moov") > clip.index(b"mdat") else 4000)),
    "a frame in two days": lambda clip: replaced(clip.replace(b"edts", b"free"), b"stts", 12, b"\x7f\xff\xff\xff"),
    "twice": lambda clip: clip + clip,
    "the time below zero": lambda clip: replaced(clip, b"mdhd", 12, bytes(4)),
    "another codec": lambda clip: clip.replace(b"avc1", b"mp4v").replace(b"avcC", b"free"),
    "an encrypted codec": lambda clip: clip.replace(b"avc1", b"encv"),
}  # fmt: skip


@pytest.mark.parametrize("damage", MENDED.values(), ids=MENDED)
def test_a_damaged_video_is_one_line_or_whole(
    tmp_path: Path, clip: bytes, damage: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "talk.mp4").write_bytes(damage(clip))
    before = set(tmp_path.iterdir())
    try:
        assert frames_of(tmp_path / "talk.mp4") == FRAMES
    except MediaError as error:
        assert "\n" not in str(error) and "talk.mp4" in str(error)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("read", [video.read_image, frames_of], ids=["picture", "video"])
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, lambda path: os.symlink("none", path), lambda path: os.symlink(path, path),
     lambda path: os.symlink("/dev/zero", path), lambda path: path.touch(), lambda path: None],
    ids=["a pipe", "a folder", "a link to nothing", "a link to itself", "a device", "empty", "missing"],
)  # fmt: skip
def test_what_is_no_file_is_one_line(
    tmp_path: Path, make: Callable[[Path], None], read: Callable[[Path], object]
) -> None:
    make(tmp_path / "a.mp4")
    refused(tmp_path / "a.mp4", read, "a.mp4")


@pytest.mark.parametrize("read", [video.read_image, frames_of], ids=["picture", "video"])
@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "a/" * 3000 + "b.png"])
def test_a_name_that_is_too_long_is_one_line(name: str, read: Callable[[Path], object]) -> None:
    with pytest.raises(MediaError) as error:
        read(Path(name))
    assert "\n" not in str(error.value)


def test_a_picture_that_changes_into_another_file_is_read_as_what_it_is(tmp_path: Path) -> None:
    """A name is no promise: what was a picture may be a program by the time it is read."""
    path = tmp_path / "face.png"
    path.write_bytes(PNG)
    video.read_image(path)
    path.write_bytes(EPS)
    refused(path, video.read_image, DAMAGED)


def test_there_are_enough_of_them() -> None:
    assert len(PICTURES) + 28 + len(TEXTS) + len(MENDED) + 18 >= 140


def test_ghostscript_would_run(tmp_path: Path) -> None:
    """What the first of the pictures does where a decoder is let near it."""
    if shutil.which("gs") is None:
        pytest.skip("Ghostscript is not installed")
    os.system(
        f"cd {tmp_path}; cp victim.txt copy.txt; gs -q -dNOSAFER -dBATCH -sDEVICE=nullpage -c '(copy.txt) deletefile quit'"
    )
    assert not (tmp_path / "copy.txt").exists()

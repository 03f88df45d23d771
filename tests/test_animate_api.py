"""The API behind the page that animates, asked over HTTP as a page asks it."""

import asyncio
import concurrent.futures
import contextlib
import io
import json
import re
import shutil
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from studykit.media import video
from studykit.pages.jobs import Job
from studykit.pages.uploads import Refused, UploadLimits
from studykit.study.file import load_study

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from studykit.pages.animate_api import Asked, Workshop  # noqa: E402
from studykit.pages.server import create_app  # noqa: E402
from tests.real_server import running  # noqa: E402

LIMITS = UploadLimits(
    bytes=3_000_000, pixels=4_000_000, seconds=5, frames=100, faces=4, files=3, away=3.0
)
FRAMES = 6


@contextlib.contextmanager
def served(limits: UploadLimits) -> Iterator[tuple[str, Workshop]]:
    workshop = Workshop(limits)
    with running(create_app(workshop=workshop)) as (address, server):
        workshop.ends = lambda: server.should_exit
        yield address, workshop


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Workshop]]:
    with served(LIMITS) as found:
        yield found


@pytest.fixture
def visitor(server: tuple[str, Workshop]) -> Iterator[Any]:
    with httpx.Client(base_url=server[0], timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory,
    portrait: np.ndarray,
    make_driving: Callable[..., Path],
) -> dict[str, bytes]:
    """A picture and a driving of 128 pixels, as bytes."""
    folder = tmp_path_factory.mktemp("brought")
    small = Image.fromarray(portrait[:400, :400]).resize((128, 128))
    small.save(folder / "face.png")
    make_driving(folder / "talk.mp4", FRAMES)
    return {
        "source": (folder / "face.png").read_bytes(),
        "driving": (folder / "talk.mp4").read_bytes(),
    }


def bring(client: Any, role: str, content: bytes, name: str = "") -> Any:
    return client.post("/api/uploads", params={"role": role, "name": name}, content=content)


def both(client: Any, files: dict[str, bytes]) -> dict[str, Any]:
    """Bring both files, and return what asks for a clip of them."""
    found = {role: bring(client, role, files[role], f"my {role}.x") for role in files}
    assert {answer.status_code for answer in found.values()} == {201}, found["source"].text
    return {role: answer.json()["id"] for role, answer in found.items()} | {
        "may": True,
        "method": "copy",
        "size": 64,
    }


def done(client: Any, asked: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/api/animate", json=asked)
    assert answer.status_code == 202, answer.text
    return until_over(client, answer.json()["id"])


def until_over(client: Any, id: str) -> dict[str, Any]:
    late = time.monotonic() + 120
    while True:
        state = client.get(f"/api/animations/{id}").json()
        if state["state"] not in ("waiting", "running"):
            return state
        assert time.monotonic() < late
        time.sleep(0.1)


@pytest.fixture(scope="module")
def animated(
    server: tuple[str, Workshop], files: dict[str, bytes]
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A visitor with an animation by warp, and what it is."""
    with httpx.Client(base_url=server[0], timeout=60) as client:
        asked = both(client, files) | {"method": "warp"}
        with client.stream("GET", "/api/events"):  # which keeps them here
            state = done(client, asked)
            assert state["state"] == "done", state["problem"]
            yield client, state


def test_what_can_be_had_is_stated(visitor: Any) -> None:
    options = visitor.get("/api/options").json()
    assert options["limits"]["seconds"] == LIMITS.seconds
    assert {"auto", "warp", "copy"} <= {method["name"] for method in options["methods"]}
    name = options["examples"]["source"][0]
    assert visitor.get(f"/api/examples/source/{name}").headers["content-type"] == "image/png"
    assert visitor.get("/api/examples/source/../../secrets").status_code == 404
    answer = visitor.get("/api/examples/source/nobody")
    assert (answer.status_code, "no example" in answer.json()["problem"]) == (404, True)


def test_an_example_is_chosen_by_its_name_and_stays(visitor: Any) -> None:
    name = visitor.get("/api/options").json()["examples"]["source"][0]
    answer = visitor.post("/api/uploads", params={"role": "source", "name": name, "example": True})
    assert (answer.status_code, answer.json()["name"]) == (201, name)
    assert visitor.delete(f"/api/uploads/{answer.json()['id']}").status_code == 204
    assert visitor.get(f"/api/examples/source/{name}").status_code == 200


def test_a_picture_is_looked_at(visitor: Any, files: dict[str, bytes]) -> None:
    answer = bring(visitor, "source", files["source"], "../me.jpg").json()
    assert (answer["name"], answer["width"], answer["height"]) == ("me.jpg", 128, 128)
    (face,) = answer["faces"]
    square = answer["square"]
    assert face["number"] == 1
    assert square["left"] <= face["left"] < face["right"] <= square["left"] + square["side"]
    shown = Image.open(io.BytesIO(visitor.get(f"/api/uploads/{answer['id']}/picture.jpg").content))
    assert shown.size == (128, 128)
    url = f"/api/uploads/{answer['id']}/look"
    closer = visitor.post(url, json={"face": 1, "margin": 0.1}).json()["square"]
    assert closer["side"] < square["side"]
    assert "no face 3" in visitor.post(url, json={"face": 3}).json()["problem"]


def test_a_driving_is_looked_at_at_once_and_then_in_full(
    visitor: Any, files: dict[str, bytes]
) -> None:
    answer = bring(visitor, "driving", files["driving"]).json()
    assert (answer["frames"], answer["frame_rate"], answer["sound"]) == (FRAMES, 25, False)
    late = time.monotonic() + 240
    while answer["scanned"] < 1:
        assert time.monotonic() < late
        time.sleep(0.1)
        answer = visitor.get(f"/api/uploads/{answer['id']}").json()
    assert (answer["cuts"], answer["faceless"], answer["reference"]["frame"]) == ([], [], 0)
    strip = Image.open(io.BytesIO(visitor.get(f"/api/uploads/{answer['id']}/strip.jpg").content))
    assert strip.size == (7 * 72, 72)
    assert visitor.get(f"/api/uploads/{answer['id']}/proxy.mp4").content[4:8] == b"ftyp"
    url = f"/api/uploads/{answer['id']}/look"
    part = visitor.post(url, json={"start": 0.08, "end": 0.2, "reference": 0.12}).json()
    assert (part["frames_taken"], part["reference"]["frame"]) == (3, 3)
    refused = visitor.post(url, json={"start": 9}).json()["problem"]
    assert "shows 0 frames" in refused
    assert "/tmp" not in refused


def test_cuts_and_frames_without_a_face_are_found(
    visitor: Any, portrait: np.ndarray, tmp_path: Path
) -> None:
    wide = np.asarray(Image.fromarray(portrait[:400, :400]).resize((144, 128)))
    frames = [wide[:, number : number + 128] for number in range(16)]
    frames[8:12] = [
        np.roll(np.linspace(0, 255, 128), n)[None, :, None] * np.ones((128, 1, 3)) for n in range(4)
    ]
    frames = [np.asarray(frame, np.uint8) for frame in frames]
    video.write_video(tmp_path / "a.mp4", frames, frame_rate=Fraction(8))
    answer = bring(visitor, "driving", (tmp_path / "a.mp4").read_bytes()).json()
    while answer["scanned"] < 1:
        time.sleep(0.1)
        answer = visitor.get(f"/api/uploads/{answer['id']}").json()
    assert [cut["seconds"] for cut in answer["cuts"]] == [1.0, 1.5]
    assert answer["faceless"] == [{"start": 1.0, "end": 1.375, "frames": 4}]


def test_a_face_that_comes_after_the_first_frame_counts(
    server: tuple[str, Workshop], visitor: Any, files: dict[str, bytes], tmp_path: Path
) -> None:
    grey = [np.full((128, 128, 3), 128, np.uint8)] * 3
    (tmp_path / "face.mp4").write_bytes(files["driving"])
    for name, shown, crop in (
        ("late.mp4", [*grey, *video.read_frames(tmp_path / "face.mp4")], "face"),
        ("never.mp4", grey, "face-or-centre"),
    ):
        video.write_video(tmp_path / name, shown, frame_rate=Fraction(8))
        brought = both(visitor, files | {"driving": (tmp_path / name).read_bytes()})
        driving = visitor.get(f"/api/uploads/{brought['driving']}").json()
        assert driving["faces"] == []
        while driving["scanned"] < 1:
            time.sleep(0.1)
            driving = visitor.get(f"/api/uploads/{brought['driving']}").json()
        known = server[1].visitors.get(visitor.cookies["studykit_visitor"])
        assert server[1].order(known, Asked(**brought)).crop == crop
        for each in ("source", "driving"):
            visitor.delete(f"/api/uploads/{brought[each]}")


def test_an_animation_is_made_with_progress(animated: tuple[Any, dict[str, Any]]) -> None:
    client, state = animated
    result = state["result"]
    assert (state["frame"], state["frames"], result["method"]) == (FRAMES, FRAMES, "warp")
    assert (result["width"], result["height"], result["frame_rate"]) == (64, 64, 25)
    assert state["previews"] >= 4
    shown = client.get(f"/api/animations/{state['id']}/previews/0").content
    assert Image.open(io.BytesIO(shown)).size == (64, 64)
    for name in ("clip.mp4", "driving.mp4", "source.png"):
        assert client.get(f"/api/animations/{state['id']}/{name}").status_code == 200


def test_how_long_it_takes_is_estimated(animated: tuple[Any, dict[str, Any]]) -> None:
    client, state = animated
    asked = state["asked"]
    whole = client.post("/api/estimate", json=asked).json()
    assert (0 < whole["seconds"] < 60, whole["frames"]) == (True, FRAMES)
    part = client.post("/api/estimate", json=asked | {"driving_view": {"end": 0.12}}).json()
    assert part["frames"] == 3


@pytest.mark.parametrize("mark", [False, True])
class TestDownload:
    def get(self, animated: tuple[Any, dict[str, Any]], form: str, mark: bool) -> bytes:
        client, state = animated
        url = f"/api/animations/{state['id']}/download/{form}"
        answer = client.get(url, params={"mark": mark})
        assert answer.status_code == 200, answer.text
        name = "my-source-my-driving-warp"
        assert f'filename="{name}' in answer.headers["content-disposition"]
        return answer.content

    @pytest.mark.parametrize("form", ["clip.mp4", "side-by-side.mp4"])
    def test_of_a_video_has_all_frames_and_says_what_it_is(
        self, animated: tuple[Any, dict[str, Any]], tmp_path: Path, form: str, mark: bool
    ) -> None:
        (tmp_path / "a.mp4").write_bytes(self.get(animated, form, mark))
        info = video.probe(tmp_path / "a.mp4")
        wide = 3 if "side" in form else 1
        assert (info.frame_count, info.frame_rate, info.width) == (FRAMES, 25, 64 * wide)
        assert sum(1 for _ in video.read_frames(tmp_path / "a.mp4")) == FRAMES
        with av.open(str(tmp_path / "a.mp4")) as file:
            assert file.metadata["comment"].startswith("Synthetic")
        assert (b"c2pa" in (tmp_path / "a.mp4").read_bytes()) is True

    def test_of_a_gif_lasts_as_long(self, animated: tuple[Any, dict[str, Any]], mark: bool) -> None:
        with Image.open(io.BytesIO(self.get(animated, "clip.gif", mark))) as gif:
            durations = []
            for number in range(gif.n_frames):
                gif.seek(number)
                durations.append(gif.info["duration"])
            assert sum(durations) == 1000 * FRAMES / 25
            assert gif.info["comment"].startswith(b"Synthetic")

    def test_of_a_still_says_what_it_is(
        self, animated: tuple[Any, dict[str, Any]], mark: bool
    ) -> None:
        with Image.open(io.BytesIO(self.get(animated, "still.png", mark))) as still:
            assert (still.size, still.text["Comment"][:9]) == ((64, 64), "Synthetic")

    def test_of_a_study_runs(
        self, animated: tuple[Any, dict[str, Any]], tmp_path: Path, mark: bool
    ) -> None:
        with zipfile.ZipFile(io.BytesIO(self.get(animated, "study.zip", mark))) as archive:
            archive.extractall(tmp_path)
        study = load_study(tmp_path / "study.yaml")
        assert [method.name for method in study.methods] == ["warp", "copy"]
        assert len(list(study.cells())) == 2
        assert all(each.path.is_file() for each in (*study.sources, *study.drivings))


def test_stills_show_their_frame_and_fill_no_disk(
    server: tuple[str, Workshop], animated: tuple[Any, dict[str, Any]]
) -> None:
    client, state = animated
    url, shown = f"/api/animations/{state['id']}/download/still.png", []
    for at in (0, 0.04, 0.2, 0.201, 1e9):
        shown.append(client.get(url, params={"at": at}).content)
    last, early, late = shown[-1], shown[0], shown[1]
    assert len({early, late, last}) == 3
    (folder,) = server[1].visitors.folder.glob(f"*/{state['id']}")
    assert len(list(folder.glob("*.png"))) <= 1 + 2 * 2  # the source; plain and marked, signed
    for at in ("nan", "inf", "-1"):
        assert client.get(url, params={"at": at}).status_code == 422


def test_views_and_settings_reach_the_clip_and_the_study(
    visitor: Any, files: dict[str, bytes], tmp_path: Path
) -> None:
    asked = both(visitor, files) | {
        "method": "warp",
        "settings": {"strength": 0.5},
        "source_view": {"crop": {"centre": [59, 61], "side": 110}},
        "driving_view": {"start": 0.04, "end": 0.16, "margin": 0.4},
    }
    state = done(visitor, asked)
    assert (state["state"], state["frames"]) == ("done", 3), state["problem"]
    url = f"/api/animations/{state['id']}/download/study.zip"
    with zipfile.ZipFile(io.BytesIO(visitor.get(url).content)) as archive:
        archive.extractall(tmp_path)
    study = load_study(tmp_path / "study.yaml")
    assert study.methods[0].settings == {"strength": 0.5}
    assert study.sources[0].view.crop.centre == (59.0, 61.0)
    assert (study.drivings[0].view.start, study.drivings[0].view.margin) == (0.04, 0.4)


def test_one_face_or_all_are_put_back_into_the_whole_picture(
    visitor: Any, files: dict[str, bytes]
) -> None:
    asked = both(visitor, files) | {"method": "warp"}
    for shows in ("picture", "faces"):
        state = done(visitor, asked | {"shows": shows})
        assert state["state"] == "done", state["problem"]
        assert (state["result"]["width"], state["result"]["frames"]) == (128, FRAMES)


def test_sound_goes_along(visitor: Any, files: dict[str, bytes], tmp_path: Path) -> None:
    with av.open(str(tmp_path / "loud.mp4"), "w") as out:
        picture = out.add_stream("libx264", rate=25)
        picture.width = picture.height = 128
        picture.pix_fmt = "yuv420p"
        tone = out.add_stream("aac", rate=16_000)
        face = np.asarray(Image.open(io.BytesIO(files["source"])))
        for _ in range(12):
            out.mux(picture.encode(av.VideoFrame.from_ndarray(face, format="rgb24")))
        out.mux(picture.encode(None))
        for number in range(8):
            wave = np.sin(np.arange(1024) * 0.2 + number)[None].astype(np.float32)
            sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 16_000, 1024 * number
            out.mux(tone.encode(sound))
        out.mux(tone.encode(None))
    asked = both(visitor, files | {"driving": (tmp_path / "loud.mp4").read_bytes()})
    state = done(visitor, asked)
    assert state["result"]["sound"]
    for form in ("clip.mp4", "side-by-side.mp4"):
        url = f"/api/animations/{state['id']}/download/{form}"
        (tmp_path / form).write_bytes(visitor.get(url, params={"mark": True}).content)
        samples = np.concatenate(list(video.read_sound(tmp_path / form)))
        assert np.abs(samples).max() > 0.1


def test_a_likeness_needs_a_right(visitor: Any, files: dict[str, bytes]) -> None:
    answer = visitor.post("/api/animate", json=both(visitor, files) | {"may": False})
    assert (answer.status_code, "needs a right" in answer.json()["problem"]) == (422, True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "folder", "settings": {"path": "/etc"}}, "no method"),
        ({"method": "fomm", "settings": {"weights": "/etc/passwd"}}, "must be one of"),
        ({"source": "nobody's"}, "not here any more"),
        ({"source_view": {"crop": {"centre": [100, 50], "side": 100}}}, "leaves the 128 x 128"),
        ({"source_view": {"start": 1}}, "is for drivings"),
        ({"driving_view": {"strat": 1}}, 'did you mean "start"'),
        ({"driving_view": {"start": 0.2, "end": 0.1}}, "must be after start"),
        ({"driving_view": {"start": 3}}, "shows 0 frames"),
        ({"size": 10_000}, "less than or equal to 512"),
        ({"path": "/etc/passwd"}, "Extra inputs are not permitted"),
    ],
)
def test_what_can_not_be_made_says_why(
    visitor: Any, files: dict[str, bytes], change: dict[str, Any], says: str
) -> None:
    asked = both(visitor, files) | change
    answer = visitor.post("/api/animate", json=asked)
    problem = answer.json()["problem"]
    if answer.status_code == 202:
        problem = until_over(visitor, answer.json()["id"])["problem"]
    assert says in problem
    assert "\n" not in problem
    assert "studykit-visitors" not in problem
    state = visitor.get("/api/state").json()
    assert len(state["uploads"]) == 2  # the files stay


def test_an_animation_is_stopped_half_way_and_leaves_nothing(
    server: tuple[str, Workshop], visitor: Any, files: dict[str, bytes], portrait: np.ndarray,
    tmp_path: Path,
) -> None:  # fmt: skip
    face = np.asarray(Image.fromarray(portrait[:400, :400]).resize((128, 128)))
    video.write_video(tmp_path / "long.mp4", [face] * 100, frame_rate=Fraction(25))
    long = files | {"driving": (tmp_path / "long.mp4").read_bytes()}
    asked = both(visitor, long) | {"method": "warp", "size": 512}
    id = visitor.post("/api/animate", json=asked).json()["id"]
    late = time.monotonic() + 240
    while visitor.get(f"/api/animations/{id}").json()["frame"] < 2:
        assert time.monotonic() < late
    in_use = visitor.delete(f"/api/uploads/{asked['source']}")
    assert (in_use.status_code, "stop that first" in in_use.json()["problem"]) == (409, True)
    state = visitor.post(f"/api/animations/{id}/stop").json()
    assert (state["state"], 0 < state["frame"] < 100) == ("stopped", True)
    assert visitor.delete(f"/api/animations/{id}").status_code == 204
    assert not list(server[1].visitors.folder.glob(f"*/{id}"))
    assert visitor.delete(f"/api/uploads/{asked['driving']}").status_code == 204
    assert list(visitor.get("/api/state").json()["uploads"]) == [asked["source"]]


def test_events_say_all_that_changes(visitor: Any, files: dict[str, bytes]) -> None:
    heard: list[dict[str, Any]] = []
    asked = both(visitor, files)
    id = visitor.post("/api/animate", json=asked).json()["id"]
    with visitor.stream("GET", "/api/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                heard.append(json.loads(line[6:]))
                if heard[-1]["animations"][0]["state"] == "done":
                    break
    assert heard[-1]["animations"][0]["id"] == id
    assert set(heard[-1]["uploads"]) == {asked["source"], asked["driving"]}


def test_eight_visitors_at_once_each_get_their_own(
    server: tuple[str, Workshop], files: dict[str, bytes]
) -> None:
    def visit(number: int) -> tuple[int, np.ndarray, int]:
        grey = Image.new("RGB", (64 + 2 * number, 64), (20 * number,) * 3)
        file = io.BytesIO()
        grey.save(file, "PNG")
        with httpx.Client(base_url=server[0], timeout=120) as client:
            asked = both(client, files | {"source": file.getvalue()})
            state = done(client, asked)
            assert state["state"] == "done", state["problem"]
            still = client.get(f"/api/animations/{state['id']}/source.png").content
            return number, np.asarray(Image.open(io.BytesIO(still))), len(state["id"])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number, still, _ in pool.map(visit, range(8)):
            assert (still == 20 * number).all()


def test_others_files_are_not_to_be_had(
    server: tuple[str, Workshop], animated: tuple[Any, dict[str, Any]], visitor: Any
) -> None:
    _, state = animated
    for url in (
        f"/api/animations/{state['id']}",
        f"/api/animations/{state['id']}/clip.mp4",
        f"/api/animations/{state['id']}/download/clip.mp4",
        f"/api/uploads/{state['asked']['source']}",
        f"/api/uploads/{state['asked']['source']}/picture.jpg",
    ):
        assert visitor.get(url).status_code == 404
    assert visitor.delete(f"/api/uploads/{state['asked']['source']}").status_code == 404
    assert visitor.get("/api/state").json() == {"uploads": {}, "animations": []}


# ------------------------------------------------------------------ what is not taken


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = zlib.compress(bytes(20_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def wav() -> bytes:
    data = bytes(8000)
    head = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + head + b"data" + struct.pack(
        "<I", len(data)
    ) + data  # fmt: skip


GREY = Image.new("RGB", (96, 96), "grey")
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(victim) deletefile\nshowpage\n"
PLAYLIST = b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"
READ = "not an image|damaged|can't be read"
PLAY = "not a video|no video stream|is a still image|damaged|cut short"

BAD: dict[str, tuple[str, Any, str]] = {
    "a text called png": ("source", b"hello, I am a picture", READ),
    "a page called jpg": ("source", b"<html><script>alert(1)</script>", READ),
    "an SVG with a script": ("source", SVG, READ),
    "PostScript": ("source", EPS, READ),
    "a PDF": ("source", saved(GREY, "PDF"), READ),
    "an archive": ("source", b"PK\x03\x04" + bytes(100), READ),
    "a program": ("source", b"\x7fELF" + bytes(200), READ),
    "zero bytes for a picture": ("source", b"", "is empty"),
    "a picture cut in two": ("source", lambda files: files["source"][:9000], "damaged or cut"),
    "a picture of zeros": ("source", bytes(5000), READ),
    "20,000 x 20,000 pixels": ("source", png(20_000, 20_000), "million pixels"),
    "more pixels than are taken": ("source", saved(GREY.resize((3000, 2000))), "are taken"),
    "a bomb as a picture": ("source", png(9_000, 9_000), "damaged|are taken|million pixels"),
    "a tiny picture": ("source", saved(GREY.resize((16, 16))), "at least 64 a side"),
    "a picture of 1 x 4000": ("source", saved(GREY.resize((1, 4000))), "at least 64 a side"),
    "a video as a picture": ("source", lambda files: files["driving"], "is a video"),
    "sound as a picture": ("source", wav(), READ),
    "more bytes than are taken": ("source", bytes(3_000_001), "larger than 3 MB"),
    "hundreds of faces": ("source", "crowd", "faces: at most 4"),
    "a text called mp4": ("driving", b"hello, I am a video", PLAY),
    "zero bytes for a video": ("driving", b"", "is empty"),
    "a video cut in two": ("driving", lambda files: files["driving"][:-2000], PLAY),
    "a picture as a video": ("driving", lambda files: files["source"], "still image"),
    "audio only": ("driving", ("sound", 0), "no video stream"),
    "a sound file called mp4": ("driving", wav(), PLAY),
    "a playlist": ("driving", PLAYLIST, PLAY),
    "a list of other files": ("driving", CONCAT, PLAY),
    "an SVG as a video": ("driving", SVG, PLAY),
    "a video of one frame": ("driving", ("one", 1), "one frame"),
    "a tiny video": ("driving", ("tiny", 4), "at least 64 a side"),
    "more frames than are taken": ("driving", ("many", 120), "frames are taken"),
    "three hours": ("driving", ("hours", 90), "180.0 min long"),
    "a bomb as a video": ("driving", ("bomb", 0), "as no picture of anything|damaged|are taken"),
}  # fmt: skip


@pytest.fixture
def bad(
    request: pytest.FixtureRequest, files: dict[str, bytes], portrait: np.ndarray, tmp_path: Path
) -> tuple[str, bytes, str]:
    role, content, says = request.param
    if callable(content):
        content = content(files)
    elif content == "crowd":
        one = portrait[:220, 120:340]
        content = saved(Image.fromarray(np.tile(one, (3, 3, 1))))
    elif isinstance(content, tuple):
        kind, count = content
        path, side = tmp_path / "a.mp4", 32 if kind == "tiny" else 64
        if kind == "bomb":
            path = tmp_path / "a.gif"
            wide = Image.new("P", (2000, 2000))
            wide.save(path, save_all=True, append_images=[wide.copy()], duration=40)
            content = _many(path.read_bytes())
        elif kind == "sound":
            with av.open(str(path), "w") as out:
                tone = out.add_stream("aac", rate=16_000)
                sound = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                sound.sample_rate, sound.pts = 16_000, 0
                out.mux(tone.encode(sound))
                out.mux(tone.encode(None))
            content = path.read_bytes()
        else:
            rate = Fraction(1, 120) if kind == "hours" else Fraction(25)
            frames = (np.full((side, side, 3), n % 250, np.uint8) for n in range(count))
            video.write_video(path, frames, frame_rate=rate)
            content = path.read_bytes()
    return role, content, says


def _many(gif: bytes) -> bytes:
    """Say a GIF's last picture many times."""
    start = gif.rindex(b"\x21\xf9")
    return gif[:start] + 90 * gif[start:-1] + b";"


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD, indirect=True)
def test_a_bad_upload_is_one_clear_message_and_nothing_stays(
    server: tuple[str, Workshop], visitor: Any, bad: tuple[str, bytes, str]
) -> None:
    role, content, says = bad
    name = "../../" + ("face.png" if role == "source" else "talk.mp4")
    answer = bring(visitor, role, content, name)
    problem = answer.json().get("problem", answer.text)
    assert answer.status_code in (413, 422), problem
    assert re.search(says, problem), problem
    assert "\n" not in problem
    assert "studykit-visitors" not in problem
    assert "/" not in problem.replace(" x ", "")
    assert 20 < len(problem) < 300
    key = visitor.cookies["studykit_visitor"]
    assert not _files(server[1].visitors.get(key).folder)


def test_memory_comes_back_after_files_that_take_much(
    visitor: Any, held_bytes: Callable[[], int]
) -> None:
    large = saved(GREY.resize((1990, 1990)))
    assert bring(visitor, "source", large).status_code == 201
    before = held_bytes()
    for content in (large, png(9_000, 9_000), png(20_000, 20_000), bytes(2_900_000)):
        bring(visitor, "source", content)
    assert held_bytes() - before < 3_000_000


def test_a_picture_without_a_face_is_taken_with_a_word(
    visitor: Any, files: dict[str, bytes]
) -> None:
    answer = bring(visitor, "source", saved(GREY), "our dog.png").json()
    assert answer["faces"] == []
    words = "no face in our dog.png: centred square taken"
    assert [note["text"] for note in answer["notes"]] == [
        "96 x 96 pixels are enlarged to 256: use a larger one, or a smaller size of the clip",
        words,
    ]
    driving = bring(visitor, "driving", files["driving"]).json()["id"]
    asked = {"source": answer["id"], "driving": driving, "may": True, "method": "copy", "size": 64}
    assert words in done(visitor, asked)["result"]["note"]


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_who_goes_half_way_through_an_upload_leaves_nothing(server: tuple[str, Workshop]) -> None:
    place = server[0].removeprefix("http://").split(":")
    before = _files(server[1].visitors.folder)
    with socket.create_connection((place[0], int(place[1]))) as client:
        client.sendall(
            b"POST /api/uploads?role=source HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabc"
        )
        time.sleep(0.3)
    late = time.monotonic() + 20
    while _files(server[1].visitors.folder) - before:
        assert time.monotonic() < late
        time.sleep(0.1)


def _sleep(_tell: Any, seconds: float) -> None:
    time.sleep(seconds)


def test_a_picture_does_not_wait_for_what_reads_videos(
    server: tuple[str, Workshop], visitor: Any, files: dict[str, bytes], tmp_path: Path
) -> None:
    _, workshop = server
    lanes = (workshop.scans, workshop.makes)
    slow = [lane.submit(Job("x", _sleep, (90,), tmp_path)) for lane in lanes]
    try:
        answers = [bring(visitor, role, files[role]) for role in files]
        assert {answer.status_code for answer in answers} == {201}
        assert not any(job.over.is_set() for job in slow)
        assert workshop.scans.places()  # the driving's own frames
    finally:
        for job, lane in zip(slow, lanes, strict=True):
            lane.stop(job)


def test_who_goes_away_holds_nobody_up(tmp_path: Path) -> None:
    class Gone:
        async def is_disconnected(self) -> bool:
            return True

    class Slow:
        def submit(self, job: Job) -> Job:
            seconds.append(job.seconds)
            return job

        def stop(self, job: Job) -> None:
            time.sleep(0.5)  # until its process is gone
            job.end("stopped")

    async def longest_wait() -> float:
        look = asyncio.create_task(
            workshop.look(Gone(), workshop.visitors.new(), Slow(), _sleep, 9)
        )
        waits = [0.0]
        while not look.done():
            start = time.monotonic()
            await asyncio.sleep(0.01)
            waits.append(time.monotonic() - start)
        assert isinstance(look.exception(), Refused)
        return max(waits)

    seconds: list[float] = []
    with Workshop(LIMITS) as workshop:
        assert asyncio.run(longest_wait()) < 0.4
    assert seconds == [300]


def test_no_more_files_than_are_kept(visitor: Any, files: dict[str, bytes]) -> None:
    for _ in range(3):
        assert bring(visitor, "source", files["source"]).status_code == 201
    answer = bring(visitor, "source", files["source"])
    assert (answer.status_code, "at most 3 files" in answer.json()["problem"]) == (409, True)


def test_a_full_disk_is_said_before_and_while_a_file_comes(
    server: tuple[str, Workshop], files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, usage = [LIMITS.spare], shutil.disk_usage("/")  # where a file begins, and then none
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=left.pop() if left else 0)
    )
    with httpx.Client(base_url=server[0], timeout=60) as client:
        client.get("/api/options")
        answers = [bring(client, "source", files["source"]) for _ in range(2)]
        assert {answer.status_code for answer in answers} == {507}
        assert "disk is full" in answers[0].json()["problem"]
        assert client.get("/api/state").json()["uploads"] == {}


def test_who_leaves_takes_files_and_work_along(files: dict[str, bytes]) -> None:
    with served(UploadLimits(away=1.0)) as (address, workshop):
        with httpx.Client(base_url=address, timeout=60) as client:
            asked = both(client, files)
            client.post("/api/animate", json=asked | {"method": "warp", "size": 512})
            assert list(workshop.visitors.folder.glob("[!.]*"))
        late = time.monotonic() + 20
        while list(workshop.visitors.folder.glob("[!.]*")):
            assert time.monotonic() < late
            time.sleep(0.1)
        assert not workshop.makes.places()
    assert not workshop.visitors.folder.exists()

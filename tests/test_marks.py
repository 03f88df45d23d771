"""Clips say that they are synthetic: a word that is seen, and a signature that programs check."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studykit.cache import cache_folder
from studykit.media import video
from studykit.pages import marks

c2pa = pytest.importorskip("c2pa")
GREY = np.full((96, 128, 3), 128, np.uint8)


@pytest.mark.parametrize("kind", ["mp4", "gif", "png"])
def test_a_signature_holds_and_its_signer_is_shown_as_unknown(tmp_path: Path, kind: str) -> None:
    path, signed = tmp_path / f"clip.{kind}", tmp_path / f"signed.{kind}"
    if kind == "mp4":
        video.write_video(path, [GREY] * 4, frame_rate=Fraction(25))
    else:
        Image.fromarray(GREY).save(path)
    marks.sign(path, signed, "a clip", "warp")
    with c2pa.Reader(signed) as reader:
        found = json.loads(reader.json())
    assert {each["code"] for each in found["validation_status"]} == {"signingCredential.untrusted"}
    manifest = found["manifests"][found["active_manifest"]]
    (actions,) = [each for each in manifest["assertions"] if "actions" in each["label"]]
    action = actions["data"]["actions"][0]
    assert manifest["title"] == "a clip"
    assert action["digitalSourceType"].endswith("compositeSynthetic")
    data = bytearray(signed.read_bytes())
    data[-20] ^= 1
    signed.write_bytes(data)
    with c2pa.Reader(signed) as reader:
        codes = {each["code"] for each in json.loads(reader.json())["validation_status"]}
    assert any("Hash.mismatch" in code for code in codes)


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    video.write_image(tmp_path / "a.png", GREY)
    marks.sign(tmp_path / "a.png", tmp_path / "b.png", "a", "warp")
    key = cache_folder() / "signing" / "key.pem"
    before = key.read_bytes()
    marks.sign(tmp_path / "a.png", tmp_path / "c.png", "a", "fomm")
    assert key.read_bytes() == before
    assert key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("shape", [(64, 64), (256, 256), (512, 300)])
def test_the_mark_is_in_the_lower_left_corner_alone(shape: tuple[int, int]) -> None:
    frame = np.full((*shape, 3), 128, np.uint8)
    changed = np.argwhere((marks.marked(frame) != frame).any(axis=2))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert top > 0.7 * shape[0]
    assert bottom < shape[0]
    assert left < 0.1 * shape[1]
    assert shape[1] < 100 or right < 0.6 * shape[1]

"""The bench, on networks that run in milliseconds."""

import json

import numpy as np
import pytest
from PIL import Image

from studykit import bench
from studykit.errors import StudyError
from studykit.methods.random_weights import SMALL


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One quick run, with what it printed; it is offered a study and one thread."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("builtins.print", lambda *words, **_: said.append(words[0]))
        path = bench.run_bench(folder / "out", threads=(1,), quick=True)
    return json.loads(path.read_text()), path.parent, "\n".join(said)


def test_both_contestants_are_measured_and_agree(results):
    found, _, _ = results
    frame = found["frame"]["1"]
    for name in ("ppgan", "fomm"):
        assert np.isfinite(frame[name]["seconds"])  # of so little, a busy machine can make anything
    shipped = ("synth-256", "regions-256", "resnet-256", "sparse-256")
    for name in ("ppgan", "fomm", *shipped, "enhance", "doubled"):
        assert len(frame[name]["turns"]) == 2 and frame[name]["peak_bytes"] > 50e6
    assert frame["ratio"] == pytest.approx(np.median(frame["ratios"]))
    assert frame["difference"]["largest"] <= 1 and frame["difference"]["mean"] < 0.1


def test_the_limit_is_that_of_the_graphs_that_were_run(results):
    found, _, _ = results
    assert set(found["weights"]["gflop"]) == {"keypoints", "encoder", "motion", "paint"}
    frame = found["frame"]["1"]
    assert frame["limit"]["gflops"] > 1
    gflop = sum(found["weights"]["gflop"][part] for part in ("keypoints", "motion", "paint"))
    seconds = frame["limit"]["seconds_a_frame"]
    assert seconds == pytest.approx(gflop / frame["limit"]["gflops"]) and seconds > 0


def test_the_memory_is_measured(results):
    found, _, _ = results
    memory = found["memory"]
    assert memory["fomm"]["long_bytes"] - memory["fomm"]["short_bytes"] < 30e6
    assert memory["ppgan"]["long_bytes"] > 1e8


def test_the_table_says_it_and_the_picture_is_one(results):
    found, folder, said = results
    assert bench.format_table(found) in said
    for words in ("PaddleGAN, seconds a frame", "times faster", "GFLOP a frame", "say nothing"):
        assert words in said
    with Image.open(folder / "bench.png") as picture:
        assert min(picture.size) > 400


def test_without_ppgans_predictor_the_table_says_so_and_the_rest_stands(results, tmp_path):
    found, _, _ = results
    found = json.loads(json.dumps(found))
    for key in ("ratio", "ratios", "difference"):
        del found["frame"]["1"][key]
    found["frame"]["1"]["ppgan"] = found["memory"]["ppgan"] = {"missing": "no ppgan here"}
    table = bench.format_table(found)
    assert "ppgan was not measured: no ppgan here" in table
    assert "fomm, seconds a frame" in table
    bench.draw(found, tmp_path / "bench.png")


def test_counted_arithmetic_is_that_of_the_layers():
    import paddle

    layers = paddle.nn.Sequential(
        paddle.nn.Conv2D(3, 5, 3, padding=1, stride=2), paddle.nn.Conv2DTranspose(5, 2, 4, stride=2)
    )
    image = paddle.static.InputSpec((1, 3, 8, 8), "float32", "image")
    expected = 2 * (3 * 5 * 9 * 16 + 5 * 2 * 16 * 16)
    assert bench._gflop(layers, [image]) == pytest.approx(expected / 1e9)


def test_a_subject_that_fails_ends_the_bench_with_its_reason(tmp_path):
    parameters = {"weights": str(tmp_path / "none.safetensors"), "config": None, "size": 64}
    parameters |= {"clip": "none", "precision": "float32"}
    with (
        bench._Subject("animate_frames", 1, tmp_path, parameters) as subject,
        pytest.raises(StudyError, match=r'^the bench can\'t go on: no weights ".*none'),
    ):
        subject.turn()
    parameters = {"config": {**SMALL, "common_params": {}}, "size": 64, "folder": str(tmp_path)}
    with pytest.raises(StudyError, match=r"make_weights ended with code 1; the last it said: "):
        bench._Subject("make_weights", 1, tmp_path, parameters)

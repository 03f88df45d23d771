"""Checkpoints: found, fetched, verified, imported, kept, and refused where they don't belong."""

import dataclasses
import http.server
import json
import pickle
import threading
import types
import zipfile

import numpy as np
import pytest

from studykit.cache import cache_folder
from studykit.errors import WeightsError
from studykit.methods import checkpoint_files, create_method, safe_pickle, weights
from studykit.methods._fomm_dygraph import load_networks
from tests.checkpoints import SMALL, layout, mobile_config, random_checkpoint, small_config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def small():
    return random_checkpoint(SMALL)


def networks(checkpoint):
    return {"kp_detector": checkpoint.kp_detector, "generator": checkpoint.generator}


def write_pickle(path, content, protocol=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def assert_same_networks(one, other):
    for part in ("kp_detector", "generator"):
        assert list(getattr(one, part)) == sorted(getattr(one, part))
        assert set(getattr(one, part)) == set(getattr(other, part))
        for name, array in getattr(other, part).items():
            np.testing.assert_array_equal(getattr(one, part)[name], array)


# --- named checkpoints -------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    """A server that gives each of its answers once, the last one for ever; asked is counted."""

    class Answer(http.server.BaseHTTPRequestHandler):
        answers, asked = [], 0

        def do_GET(self):
            status, body, promised = self.answers[min(Answer.asked, len(self.answers) - 1)]
            Answer.asked += 1
            self.send_response(status)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    publish_at(monkeypatch, f"http://127.0.0.1:{server.server_port}/vox-cpk.pdparams")
    monkeypatch.setattr("time.sleep", lambda _: None)  # pooch waits between its attempts
    yield Answer
    server.shutdown()
    server.server_close()


def publish_at(monkeypatch, address):
    published = dataclasses.replace(weights._PUBLISHED["vox-256"], address=address)
    monkeypatch.setitem(weights._PUBLISHED, "vox-256", published)


def test_a_named_checkpoint_is_fetched_once_and_its_hash_recorded(server, cache):
    body = pickle.dumps({"generator": {}})
    server.answers = [(200, body, len(body))]
    path = weights.locate("vox-256")
    assert path == cache / "vox-cpk.pdparams" and path.read_bytes() == body
    assert weights.locate("vox-256") == path and server.asked == 1
    recorded = json.loads((cache / "vox-cpk.pdparams.json").read_text())
    assert recorded == {"sha256": weights.sha256(path), "bytes": len(body)}


def test_a_broken_transfer_is_tried_again_from_the_start(server, cache):
    body = pickle.dumps({"generator": {}})
    server.answers = [(200, body[:5], len(body)), (503, b"", 0), (200, body, len(body))]
    assert weights.locate("vox-256").read_bytes() == body
    assert server.asked == 3


PAGE = b"<html>Sign in to the network</html>"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, b"\x80\x02", 1000), "ChunkedEncodingError|ConnectionError"),
        ((404, b"", 0), "HTTPError"),
        ((200, PAGE, len(PAGE)), "what the address gave is no checkpoint"),
    ],
    ids=["cut short", "gone", "a page"],
)
def test_a_failed_fetch_is_one_line_and_leaves_nothing(server, cache, answer, reason):
    server.answers = [answer]
    with pytest.raises(WeightsError, match=reason) as error:
        weights.locate("vox-256")
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []


def test_offline_the_address_and_the_folder_are_named(cache, monkeypatch):
    address = "http://127.0.0.1:9/vox-cpk.pdparams"  # nothing listens on the discard port
    publish_at(monkeypatch, address)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(WeightsError) as error:
        weights.load("vox-256")
    assert str(error.value) == (
        f"vox-256 is not cached and can't be fetched (ConnectionError): download {address} and put "
        f"it into the folder {cache} as vox-cpk.pdparams"
    )


def test_a_file_put_into_the_folder_by_hand_is_taken_and_checked_ever_after(cache, small):
    path = write_pickle(cache / "vox-cpk.pdparams", networks(small))
    first = weights.load("vox-256").sha256
    assert first == weights.sha256(path)
    write_pickle(path, networks(random_checkpoint(SMALL, seed=1)))
    with pytest.raises(WeightsError) as error:
        weights.load("vox-256")
    text = str(error.value)
    assert str(path) in text and first[:12] in text and "delete it" in text and "\n" not in text
    (cache / "vox-cpk.pdparams.json").unlink()
    assert weights.load("vox-256").sha256 != first


def test_a_published_checkpoint_whose_hash_is_known_must_have_it(cache, small, monkeypatch):
    path = write_pickle(cache / "vox-cpk.pdparams", networks(small))
    for known in (weights.sha256(path), "0" * 64):
        published = dataclasses.replace(weights._PUBLISHED["vox-256"], sha256=known)
        monkeypatch.setitem(weights._PUBLISHED, "vox-256", published)
        if known.strip("0"):
            assert weights.locate("vox-256") == path
    with pytest.raises(WeightsError, match=r"is not the published vox-256 .* not 000000000000"):
        weights.locate("vox-256")


def test_status_tells_what_is_cached_without_fetching(cache):
    published = [status for status in weights.status() if status.address]
    assert [status.name for status in published] == ["vox-256", "vox-512", "vox-mobile"]
    assert not any(status.cached for status in published)
    path = write_pickle(cache / "vox-mobile.pdparams", {"generator": {}})
    mobile = weights.status()[-1]
    assert (mobile.cached, mobile.path, mobile.sha256) == (True, path, "")
    assert mobile.size == path.stat().st_size and mobile.address.startswith("https://")
    weights.locate("vox-mobile")
    assert weights.status()[-1].sha256 == weights.sha256(path)


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(WeightsError, match=r'no weights "vox-265".*did you mean "vox-256"'):
        weights.load("vox-265")


def test_the_cache_folder_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"
    monkeypatch.delenv("STUDYKIT_CACHE")
    assert cache_folder().name == "studykit"


# --- files -------------------------------------------------------------------------------------


def test_what_is_saved_comes_back_with_its_settings(small, tmp_path):
    config = small_config()
    config["kp_detector_cfg"]["temperature"] = 0.07  # no tensor's shape shows this
    checkpoint_files.save(dataclasses.replace(small, config=config), tmp_path / "mine.safetensors")
    loaded = weights.load(tmp_path / "mine.safetensors")
    assert loaded.config == config
    assert loaded.sha256 == weights.sha256(tmp_path / "mine.safetensors")
    assert_same_networks(loaded, small)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]
    (tmp_path / "other").write_text("as files here are")
    assert (tmp_path / "mine.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_pickle_is_read_once_and_kept_as_safetensors(small, tmp_path, cache, monkeypatch):
    path = write_pickle(tmp_path / "mine.pdparams", {**networks(small), "epoch": 3})
    first = weights.load(path)
    assert_same_networks(first, small)
    assert first.sha256 == weights.sha256(path)
    (kept,) = cache.glob("imported/*.safetensors")
    assert kept.stem == first.sha256
    monkeypatch.setattr(safe_pickle, "load_arrays", lambda *_: pytest.fail("read again"))
    assert_same_networks(weights.load(path), small)


def test_a_kept_file_that_was_damaged_is_made_anew(small, tmp_path, cache):
    path = write_pickle(tmp_path / "mine.pdparams", networks(small))
    weights.load(path)
    (kept,) = cache.glob("imported/*.safetensors")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 0x40
    kept.write_bytes(content)
    assert_same_networks(weights.load(path), small)


def test_a_malicious_checkpoint_runs_nothing_and_is_not_kept(tmp_path, cache):
    marker = tmp_path / "executed"
    path = tmp_path / "evil.pdparams"
    path.write_bytes(
        b"\x80\x02}X\x09\x00\x00\x00generatorcos\nsystem\n(Vtouch "
        + str(marker).encode()
        + b"\ntRs."
    )
    with pytest.raises(WeightsError, match=r"evil.pdparams is refused: .* os.system"):
        weights.load(path)
    assert not marker.exists() and not cache.exists()


def zip_file(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


DAMAGED = {
    "a zip archive": (zip_file, "is a zip archive and no checkpoint"),
    "a cut zip archive": (lambda path: path.write_bytes(b"PK\x03\x04abc"), "damaged zip archive"),
    "nothing": (lambda path: path.write_bytes(b""), "damaged or no checkpoint"),
    "text": (lambda path: path.write_text("hello\n" * 9), "damaged or no checkpoint"),
    "random": (lambda path: path.write_bytes(np.random.default_rng(1).bytes(5000)), "damaged"),
    "a header alone": (
        lambda path: path.write_bytes((20).to_bytes(8, "little") + b'{"a":1}' + b" " * 90),
        "is damaged",
    ),
    "one network": (
        lambda path: write_pickle(path, {"generator": {"a": np.ones(2, "f4")}}),
        'has no "kp_detector" .it holds generator',
    ),
    "a flat dictionary": (
        lambda path: write_pickle(path, {"conv.weight": np.ones(2, "f4")}),
        'has no "kp_detector" .it holds nothing',
    ),
    "not a number": (
        lambda path: write_pickle(path, {"kp_detector": {"a": np.array([1, np.nan], "f4")}}),
        "kp_detector a has values that are no numbers",
    ),
    "other networks": (
        lambda path: write_pickle(
            path, {part: {"a": np.ones(2, "f4")} for part in ("kp_detector", "generator")}
        ),
        "for another network: .*kp.weight",
    ),
}


@pytest.mark.parametrize(("make", "reason"), DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("suffix", ["pdparams", "safetensors", "pth.tar"])
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path, make, reason, suffix):
    path = tmp_path / f"given.{suffix}"
    make(path)
    with pytest.raises(WeightsError, match=reason) as error:
        weights.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_truncated_safetensors_file_is_refused(small, tmp_path):
    checkpoint_files.save(small, tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    for length in (5, 8, 9, 200, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:length])
        with pytest.raises(WeightsError, match="damaged"):
            weights.load(tmp_path / "cut.safetensors")


def test_a_folder_that_cannot_be_written_is_one_line(small, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        WeightsError, match=r"^can't write .*: choose a folder that can be written$"
    ):
        checkpoint_files.save(small, tmp_path / "file" / "mine.safetensors")
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path / "file"))
    path = write_pickle(tmp_path / "mine.pdparams", networks(small))
    with pytest.raises(WeightsError, match=r"^can't write .*, or set STUDYKIT_CACHE to one$"):
        weights.load(path)


# --- settings ----------------------------------------------------------------------------------


def shown(settings):
    """The settings without those that are off, and without the limit that may not be reached."""
    return {
        key: shown(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if value is not False and key != "max_features"
    }


def variants():
    yield "small", SMALL
    yield "mobile", mobile_config()
    yield "without jacobians", small_config(estimate_jacobian=False)
    config = small_config(num_kp=4)
    config["kp_detector_cfg"].update(single_jacobian_map=True, num_blocks=2, scale_factor=0.25)
    config["generator_cfg"].update(estimate_occlusion_map=False, num_down_blocks=1)
    config["generator_cfg"]["max_features"] = 16
    config["generator_cfg"]["dense_motion_params"].update(scale_factor=0.125, max_features=16)
    yield "another", config


@pytest.mark.parametrize("config", [pytest.param(c, id=name) for name, c in variants()])
def test_settings_are_read_from_the_shapes_of_the_tensors(config, tmp_path):
    path = write_pickle(tmp_path / "a.pdparams", networks(random_checkpoint(config, size=128)))
    found = weights.load(path).config
    assert shown(found) == shown(config) and layout(found) == layout(config)


@pytest.mark.parametrize("name", ["vox-256", "vox-mobile"])
def test_the_published_settings_are_told_by_the_tensors_of_their_networks(name):
    config = weights.published_config(name)
    tensors = [
        {name: np.broadcast_to(np.float32(0), shape) for name, shape in network.items()}
        for network in layout(config)
    ]
    assert shown(checkpoint_files.settings_from_shapes("file", *tensors)) == shown(config)


PADDLEGAN_YAML = """
dataset: {train: {name: FirstOrderDataset}}
model:
  name: FirstOrderModel
  common_params: {num_kp: 10, num_channels: 3, estimate_jacobian: True}
  generator:
    name: FirstOrderGenerator
    kp_detector_cfg: {temperature: 0.1, block_expansion: 32}
    generator_cfg: {block_expansion: 64, dense_motion_params: {num_blocks: 5}}
"""
ORIGINAL_YAML = """
model_params:
  common_params: {num_kp: 10, num_channels: 3, estimate_jacobian: True}
  kp_detector_params: {temperature: 0.1, block_expansion: 32}
  generator_params: {block_expansion: 64, dense_motion_params: {num_blocks: 5}}
"""


@pytest.mark.parametrize("text", [PADDLEGAN_YAML, ORIGINAL_YAML])
def test_settings_are_read_from_both_kinds_of_yaml(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    assert checkpoint_files.read_config(tmp_path / "config.yaml") == {
        "common_params": {"num_kp": 10, "num_channels": 3, "estimate_jacobian": True},
        "kp_detector_cfg": {"temperature": 0.1, "block_expansion": 32},
        "generator_cfg": {"block_expansion": 64, "dense_motion_params": {"num_blocks": 5}},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model: {common_params: {num_kp: 10}}", "has no section kp_detector_cfg"),
        ("- a list", "has no section common_params"),
        ("model: [1, 2", "line 1: .* fix the YAML"),
        (None, "can't be read: No such file"),
        ("a: &a [*a]", "an alias to what it stands in"),
        ("[" * 99, "too deep in one another"),
    ],
)
def test_a_settings_file_that_is_none_is_one_line(text, reason, tmp_path):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(WeightsError, match=reason) as error:
        checkpoint_files.read_config(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("kp.bias"), r"kp_detector has no tensor kp.bias \(6,\)"),
        (
            lambda tensors: tensors.update({"kp.bias": np.ones(7, "f4")}),
            r"kp_detector kp.bias is \(7,\), expected \(6,\)",
        ),
        (
            lambda tensors: tensors.update({"extra.bias": np.ones(7, "f4")}),
            "kp_detector has a tensor extra.bias",
        ),
        (lambda tensors: tensors.pop("down.weight"), None),
    ],
    ids=["missing", "shape", "superfluous", "constant"],
)
def test_the_first_tensor_that_differs_is_named(small, change, reason):
    expected = {name: array.shape for name, array in small.kp_detector.items()}
    tensors = dict(small.kp_detector)
    change(tensors)
    changed = dataclasses.replace(small, networks={**small.networks, "kp_detector": tensors})
    if reason is None:
        assert checkpoint_files.require_tensors(changed, "kp_detector", expected) is tensors
        return
    with pytest.raises(WeightsError, match=reason):
        checkpoint_files.require_tensors(changed, "kp_detector", expected)


# --- original checkpoints ----------------------------------------------------------------------


def as_pytorch_names(tensors):
    """Name tensors as the original networks do, with the counters of their batch norms."""
    named = {}
    for name, array in tensors.items():
        name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        named[name] = array
        if name.endswith(".running_var"):
            named[name.replace("running_var", "num_batches_tracked")] = np.array(9)
    return named


@pytest.mark.parametrize("config", [SMALL, mobile_config()], ids=["full", "mobile"])
def test_original_names_become_those_of_ppgans_networks(config):
    checkpoint = random_checkpoint(config)
    for tensors in networks(checkpoint).values():
        original = as_pytorch_names(tensors)
        assert set(original) != set(tensors)
        assert set(checkpoint_files.from_pytorch(original)) == set(tensors)


@pytest.mark.parametrize("legacy", [True, False], ids=["before 1.6", "zip"])
def test_an_original_checkpoint_is_imported(small, tmp_path, legacy):
    torch = pytest.importorskip("torch")
    content = {
        part: {n: torch.tensor(a) for n, a in as_pytorch_names(tensors).items()}
        for part, tensors in networks(small).items()
    }
    path = tmp_path / "vox-cpk.pth.tar"
    torch.save({**content, "epoch": 99}, path, _use_new_zipfile_serialization=not legacy)
    assert_same_networks(weights.load(path), small)
    assert shown(weights.load(path).config) == shown(SMALL)


@pytest.mark.parametrize("legacy", [True, False], ids=["before 1.6", "zip"])
def test_a_malicious_original_checkpoint_is_refused_by_name(tmp_path, legacy):
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    path = tmp_path / "evil.pth.tar"
    torch.save({"generator": Evil()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"refused: loading it would call .*open") as error:
        weights.load(path)
    assert "\n" not in str(error.value) and not (tmp_path / "executed").exists()


def test_settings_far_larger_than_the_tensors_are_refused_before_networks_are_made(small, tmp_path):
    for part, name, value in (
        ("common_params", "num_kp", 10**9),
        ("kp_detector_cfg", "num_blocks", 400),
        ("kp_detector_cfg", "scale_factor", 1e-6),
        ("kp_detector_cfg", "temperature", float("nan")),
        ("generator_cfg", "block_expansion", -1),
        ("generator_cfg", "max_features", float("inf")),
    ):
        config = small_config()
        config[part][name] = value
        checkpoint_files.save(dataclasses.replace(small, config=config), tmp_path / "a.safetensors")
        with pytest.raises(WeightsError, match=f"its setting '{name}' must be from"):
            weights.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("config", ["[]", "1", '{"generator_cfg": []}', "{", "[" * 9999])
def test_a_config_that_is_no_mapping_is_refused(small, tmp_path, config):
    from safetensors.numpy import save_file

    tensors = {f"{p}.{n}": a for p, own in networks(small).items() for n, a in own.items()}
    save_file(tensors, tmp_path / "a.safetensors", {"config": config})
    for read in (weights.load, weights.stored_settings):
        with pytest.raises(WeightsError, match="is damaged") as error:
            read(tmp_path / "a.safetensors")
        assert "\n" not in str(error.value)


def test_what_is_hashed_is_what_is_read(small, tmp_path, monkeypatch):
    """A file that changes between two looks at it is the one or the other, never both."""
    path = tmp_path / "mine.safetensors"
    checkpoint_files.save(small, path)
    before, read = weights.sha256(path), type(path).read_bytes
    other = {part: own | {"other": np.ones(1, "f4")} for part, own in networks(small).items()}

    def read_and_change(self):
        content = read(self)
        checkpoint_files.save(
            dataclasses.replace(small, networks={**small.networks, **other}), path
        )
        return content

    monkeypatch.setattr(type(path), "read_bytes", read_and_change)
    loaded = weights.load(path)
    assert loaded.sha256 == before and "other" not in loaded.generator


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("size",), []),
        (("size",), None),
        (("kp_detector_cfg", "scale_factor"), "a"),
        (("kp_detector_cfg", "scale_factor"), None),
        (("kp_detector_cfg", "num_blocks"), 0.3),
        (("generator_cfg", "dense_motion_params"), 5),
        (("generator_cfg",), {}),
        (("common_params", "num_kp"), 0),
    ],
)
def test_settings_of_another_kind_make_no_network_in_one_line(small, tmp_path, place, value):
    config = small_config() | {"size": 64}
    inner = config
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    checkpoint_files.save(dataclasses.replace(small, config=config), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError) as error:
        load_networks(str(tmp_path / "a.safetensors"), None, "cpu", 128)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("network", ["fomm", "resnet", "regions"])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({}, ""),
        ({"trained_on": "cats"}, "mine.safetensors was trained on cats alone"),
        (
            {"trained_on": "cats", "size": 64},
            "mine.safetensors was trained on cats alone, at 64 pixels",
        ),
    ],
)
def test_what_networks_know_is_said_as_far_as_their_file_does(
    small, tmp_path, network, written, said
):
    plain = {k: v for k, v in small.config.items() if k not in ("size", "trained_on")}
    path = tmp_path / "mine.safetensors"
    checkpoint_files.save(
        dataclasses.replace(small, config={**plain, "network": network, **written}), path
    )
    assert weights.knowledge(path) == said
    state = types.SimpleNamespace(moved_by=[], engine=types.SimpleNamespace(note=""))
    note = create_method(network, weights=str(path)).notes(state)
    assert note.split(": ")[0] == said

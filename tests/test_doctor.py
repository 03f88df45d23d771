"""`studykit doctor`: says what is there, names the command for what is not, and never crashes."""

import importlib.metadata
import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from studykit import doctor
from studykit.doctor import Finding, diagnose, render


@pytest.fixture(scope="module")
def findings():
    return {finding.name: finding for finding in diagnose()}


def test_what_this_environment_has_is_found(findings):
    assert findings["Python"].ok and sys.executable in findings["Python"].text
    assert findings["studykit"].ok and findings["packages"].ok
    assert f"numpy {importlib.metadata.version('numpy')}" in findings["packages"].text
    assert "papermill" in findings["packages"].text and "torch" not in findings["packages"].text
    assert findings["H.264 encoder"].ok and findings["AAC encoder"].ok
    assert findings["face model: landmarks"].ok and findings["face model: identity"].ok
    assert findings["notebook kernel"].ok
    assert {"weights vox-256", "weights vox-512", "weights vox-mobile"} <= set(findings)
    assert not [f for f in findings.values() if "can't be looked at" in f.text]


def test_paddle_and_ppgan_are_tried_and_not_only_looked_up(findings):
    if importlib.util.find_spec("paddle") is None:
        pytest.skip("Paddle is not installed")
    assert findings["paddle"].ok and "built" in findings["paddle"].text
    assert findings["ppgan"].ok and "2.1.0" in findings["ppgan"].text


def test_what_is_missing_comes_with_a_command(findings):
    for finding in findings.values():
        assert "\n" not in finding.text + finding.remedy
        if finding.ok is None and finding.text.startswith("not "):
            assert finding.remedy
        if finding.ok:
            assert not finding.remedy


def test_the_table_is_readable():
    table = render(
        [
            Finding("a", True, "1.0"),
            Finding("a longer name", False, "not installed " * 20, "pip install " + "x" * 200),
            Finding("b", None, "optional"),
        ]
    )
    lines = table.splitlines()
    assert lines[0] == "ok    a              1.0"
    assert lines[1].startswith("FIX   a longer name  not installed")
    assert all(len(line) <= 100 for line in lines if "->" not in line)
    assert any(line.strip() == "-> pip install " + "x" * 200 for line in lines)
    assert lines[-1] == "1 to fix: see the lines with ->"
    assert render([Finding("a", True, "")]).endswith("all that is needed is here")
    assert render([])


def names(found):
    return {finding.name: finding for finding in found}


def test_a_missing_and_an_outdated_package_are_named(monkeypatch):
    real, changed = doctor.installed_version, {"papermill": "", "numpy": "0.1"}
    monkeypatch.setattr(doctor, "installed_version", lambda name: changed.get(name, real(name)))
    found = names(doctor._packages())
    assert found["papermill"].ok is False and "not installed" in found["papermill"].text
    assert 'install "papermill' in found["papermill"].remedy or "papermill>=" in (
        found["papermill"].remedy
    )
    assert found["numpy"].ok is False and "0.1 is installed, numpy>=" in found["numpy"].text
    assert "numpy" not in found["packages"].text.split()


def test_a_probe_that_fails_is_a_finding(monkeypatch):
    def broken():
        yield Finding("first", True, "")
        raise RuntimeError("two\nlines")

    found = doctor._guarded("probe", broken)
    assert [f.name for f in found] == ["first", "probe"]
    assert found[1].ok is False and found[1].text == "can't be looked at: RuntimeError: two lines"

    def no_weights():
        raise PermissionError("cache")

    monkeypatch.setattr("studykit.methods.weights.status", no_weights)
    monkeypatch.setattr(doctor, "_TRIALS", dict.fromkeys(doctor._TRIALS, "raise SystemExit(3)"))
    found = names(diagnose())
    assert "PermissionError: cache" in found["weights"].text
    for name in ("imports", "H.264 encoder", "notebook kernel", "paddle"):
        assert found[name].ok is False and "ended with code 3" in found[name].text


def test_a_crash_and_a_hang_are_said(monkeypatch):
    code = (
        'import os; print(\'{"numpy": ""}\', flush=True); os.kill(os.getpid(), 11)'
        if os.name != "nt"
        else "raise SystemExit(3)"
    )
    outcome = doctor._try(code)
    assert outcome.said == {"numpy": ""} and "SIGSEGV" in outcome.failure
    finding = names(doctor._conclude_imports(outcome))["imports"]
    assert finding.ok is False and "crashed (SIGSEGV), after numpy" in finding.text
    monkeypatch.setattr(doctor, "_TIMEOUT", 0.5)
    outcome = doctor._try("import time; time.sleep(60)")
    assert outcome.failure == "no answer within 0.5 s"


def test_what_packages_print_is_no_answer():
    outcome = doctor._try("print('hello'); print('{\"a\": 1}'); print('[1')")
    assert outcome == doctor._Outcome({"a": 1}, "")


def test_a_failed_import_names_its_package():
    outcome = doctor._Outcome({"numpy": "", "dlib": "ImportError: libstdc++.so.6"}, "")
    finding = names(doctor._conclude_imports(outcome))["import dlib"]
    assert "libstdc++" in finding.text
    assert finding.remedy.endswith("install --force-reinstall dlib-bin") or (
        finding.remedy.endswith("--force-reinstall dlib-bin")
    )


def test_a_kernel_of_another_environment_is_named():
    outcome = doctor._Outcome({}, "ModuleNotFoundError: No module named 'studykit'")
    (finding,) = doctor._conclude_kernel(outcome)
    assert finding.ok is False and "No module named 'studykit'" in finding.text
    assert "-m ipykernel install --sys-prefix --name python3" in finding.remedy


def test_missing_paddle_and_ppgan_name_their_commands(monkeypatch):
    monkeypatch.setattr(doctor, "_gpus", lambda: ("", ""))
    monkeypatch.setattr(doctor, "installed_version", lambda name: None)
    found = names(doctor._conclude_paddle(doctor._Outcome({}, "fomm needs paddle: ...")))
    assert 'paddlepaddle>=3.0"' in found["paddle"].remedy and "ppgan" not in found
    told = {"paddle": "3.3.1", "cuda": ""}
    found = names(doctor._conclude_paddle(doctor._Outcome(told, "fomm needs ppgan: ...")))
    assert found["ppgan"].remedy.endswith("--no-deps ppgan==2.1.0")
    found = names(doctor._conclude_paddle(doctor._Outcome(told, "Error: fomm needs cv2: ...")))
    assert found["ppgan"].remedy.endswith("opencv-python-headless")


NVIDIA_SMI = """#!/bin/sh
if [ $# -gt 0 ]; then echo "{row}"; else
echo "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: {cuda}     |"; fi
"""


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for nvidia-smi")
@pytest.mark.parametrize(
    ("row", "cuda", "wheel"),
    [
        ("NVIDIA A100-SXM4-40GB, 550.54.15, 40960 MiB, 8.0", "12.4", "cu126"),
        ("NVIDIA RTX 5090, 575.51, 32607 MiB, 12.0", "12.9", "cu129"),
        ("NVIDIA B200, 580.65, 183359 MiB, 10.0", "13.0", "cu129"),
        ("Tesla T4, 470.82, 15109 MiB, 7.5", "11.8", "cu118"),
        ("Old card, 390.1, 4000 MiB, [N/A]", "12.0", "cu126"),
    ],
)
def test_a_gpu_beside_a_paddle_for_cpu_is_found(monkeypatch, tmp_path, row, cuda, wheel):
    script = tmp_path / "nvidia-smi"
    script.write_text(NVIDIA_SMI.format(row=row, cuda=cuda))
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(
        doctor, "installed_version", {"paddlepaddle": "3.3.1", "ppgan": "2.1.0"}.get
    )
    told = {"paddle": "3.3.1", "cuda": "", "ppgan": True}
    found = names(doctor._conclude_paddle(doctor._Outcome(told, "")))
    assert found["paddle"].ok and found["GPU"].ok is False
    assert row.split(",")[0] in found["GPU"].text and "built for CPU" in found["GPU"].text
    uninstall, install = found["GPU"].remedy.split(" && ")
    assert " uninstall " in uninstall and uninstall.endswith(" paddlepaddle")
    assert install.endswith(
        f'"paddlepaddle-gpu>=3.0" -i https://www.paddlepaddle.org.cn/packages/stable/{wheel}/'
    )


def test_a_gpu_that_works_and_one_that_does_not_are_found(monkeypatch):
    gpu = ("NVIDIA A100, 40960 MiB, driver 550.54", "pip install paddlepaddle-gpu")
    monkeypatch.setattr(doctor, "_gpus", lambda: gpu)
    told = {"paddle": "3.3.1", "cuda": "12.6", "devices": ["NVIDIA A100"], "ppgan": True}
    found = names(doctor._conclude_paddle(doctor._Outcome({**told, "gpu_works": True}, "")))
    assert found["GPU"].ok and "NVIDIA A100: Paddle computes on it" in found["GPU"].text
    assert "built with CUDA 12.6" in found["paddle"].text
    found = names(doctor._conclude_paddle(doctor._Outcome(told, "libcudnn.so.9: not found")))
    assert found["GPU"].ok is False and "libcudnn" in found["GPU"].text and found["GPU"].remedy


def test_a_full_disk_is_to_fix(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e8))
    found = names(doctor._machine())
    assert found["disk"].ok is False and "--out" in found["disk"].remedy


def test_a_strangers_package_of_the_same_name_is_found(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", {"studykit": "1.0.0"}.get)
    found = names(doctor._machine())["another studykit"]
    assert found.ok is False and "1.0.0" in found.text and "uninstall" in found.remedy
    monkeypatch.setattr(doctor, "installed_version", {}.get)
    assert "another studykit" not in names(doctor._machine())


def test_an_environment_without_pip_is_helped_with_uv(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/opt/uv")
    assert doctor._pip("uninstall -y paddlepaddle").startswith("/opt/uv pip uninstall --python ")
    assert " -y " not in doctor._pip("uninstall -y paddlepaddle")
    monkeypatch.setattr(doctor, "installed_version", lambda name: "26.0")
    assert doctor._pip("install torch").endswith("-m pip install torch")


def test_looking_leaves_setuptools_importable_for_paddle():
    code = (
        "from studykit import doctor\n"
        "doctor._TRIALS = dict.fromkeys(doctor._TRIALS, '')\n"
        "doctor.diagnose()\n"
        "import setuptools\n"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr

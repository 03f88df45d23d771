"""The processor, the threads to start on it, and what is installed."""

import contextlib
import importlib.metadata
import importlib.util
import itertools
import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from studykit.errors import StudyError

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_LIMITS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))  # of versions 2 and 1


def processor_name() -> str:
    """Return what the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def installed_version(package: str) -> str:
    """Return the version of a package by its name on the index; "" if it is not installed."""
    found = importlib.metadata.distributions(name=package)
    return next((distribution.version for distribution in found), "")


def installed_versions(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    return {name: found for name in packages if (found := installed_version(name))}


def package_folder(name: str) -> Path | None:
    """Return where a package lies, which is not imported; None where it is not installed."""
    spec = importlib.util.find_spec(name)
    places = spec and spec.submodule_search_locations
    return Path(next(iter(places))) if places else None


def usable_cores() -> float:
    """Return how many cores this process may use: its affinity, and its container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    return min([cores, *_quotas()])


def threads() -> int:
    """Return how many threads a computation should use.

    ``STUDYKIT_THREADS`` if it is set, as it is for workers that share a machine; else
    ``OMP_NUM_THREADS``, which schedulers of clusters set; else one for each usable core.

    Raises
    ------
    StudyError
        ``STUDYKIT_THREADS`` is no whole number above 0.
    """
    if asked := os.environ.get("STUDYKIT_THREADS"):
        if not asked.isdecimal() or int(asked) < 1:
            raise StudyError(f"STUDYKIT_THREADS is {asked!r}: set it to a number above 0")
        return int(asked)
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked):
        return int(asked)
    return max(1, int(usable_cores()))


def _quotas() -> Iterator[float]:
    """Yield the limits, in cores, of the control groups that this process is in."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for group, names in itertools.product((inside, *inside.parents), _LIMITS):
            files = [_CONTROL_GROUPS / controllers / group / name for name in names]
            with contextlib.suppress(OSError, ValueError):  # it is not there, or says "max"
                limits = " ".join(file.read_text(encoding="utf-8") for file in files)
                quota, period = map(int, limits.split())
                if quota > 0:
                    yield quota / period

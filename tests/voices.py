"""Sound that stands for speech, and videos that it is heard in."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import lfilter

RATE = 16_000
# The first formants of a, i, u and an open e, in Hz, and their widths.
_VOWELS = ((700, 1200, 2500), (300, 2200, 3000), (400, 800, 2300), (500, 1700, 2500))
_WIDTHS = (80, 100, 150)


def spoken(seconds: float) -> np.ndarray:
    """Return five vowels a second in a man's pitch: (n,) float32, 16,000 samples a second."""
    times = np.arange(round(seconds * RATE)) / RATE
    pitch = 120 * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * times))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    pulses += np.random.default_rng(0).normal(0, 0.01, len(times))
    sound = np.zeros(len(times))
    for start in range(0, len(times), RATE // 5):
        part = pulses[start : start + RATE // 5]
        vowel = _VOWELS[start * 5 // RATE % len(_VOWELS)]
        for formant, width in zip(vowel, _WIDTHS, strict=True):
            r = np.exp(-np.pi * width / RATE)
            part = lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * formant / RATE), r * r], part)
        sound[start : start + RATE // 5] = part / np.abs(part).max() * np.hanning(len(part))
    return (0.4 * sound).astype(np.float32)


def write_with_sound(
    path: Path, frames: list[np.ndarray], rate: Fraction, sound: np.ndarray, start: float = 0.0
) -> Path:
    """Write a video, with sound of 16,000 samples a second that begins at ``start``."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=rate, options={"crf": "10"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = output.add_stream("pcm_s16le", rate=RATE)
        audio.codec_context.layout = "mono"
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, 1 / rate
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for offset in range(0, len(sound), 800):
            samples = (sound[offset : offset + 800] * 32767).astype(np.int16)[None]
            chunk = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            chunk.sample_rate, chunk.time_base = RATE, Fraction(1, RATE)
            chunk.pts = offset + round(start * RATE)
            output.mux(audio.encode(chunk))
        output.mux(audio.encode(None))
    return path

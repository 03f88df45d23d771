"""The scores of clips of rendered faces say what they say they do."""

import numpy as np
import pytest

from studykit.metrics import cases, pixels, rendered
from studykit.metrics.motion import eye_distance


@pytest.fixture(scope="module")
def case() -> cases.Case:
    return next(cases.cases(size=96, identities=8))


def test_scores_of_equal_images_stay_finite_and_of_no_pixels_are_nan(case):
    image = case.own[0]
    same, nowhere = pixels.Comparison(image, image), np.zeros(image.shape[:2], bool)
    for score, best in ((pixels.peak_signal_noise_ratio, 100), (pixels.mean_absolute_error, 0)):
        np.testing.assert_array_equal(score(same, [None, nowhere]), [best, np.nan])


def test_scores_agree_with_scikit_image(case):
    from skimage.metrics import peak_signal_noise_ratio

    image, truth = case.own[0], case.own[5]
    where = np.ones(truth.shape[:2], bool)
    found = pixels.peak_signal_noise_ratio(pixels.Comparison(image, truth), [where, None])
    assert found == [pytest.approx(peak_signal_noise_ratio(truth, image, data_range=255))] * 2


def test_regions_hold_their_landmarks_in_both_frames_and_little_else(case):
    marks = case.landmarks[0][[0, 1]]
    where = rendered.around(marks, rendered.MOUTH, 96)
    x, y = np.rint(marks[:, 48:68].reshape(-1, 2)).astype(int).T
    assert where[y, x].all() and where.mean() < 0.15
    eyes = rendered.around(marks, rendered.EYES, 96)
    assert not eyes[y, x].any()


def test_landmark_distance_is_in_percent_of_the_eyes_distance():
    marks = np.zeros((68, 2))
    marks[45] = 40, 0
    assert eye_distance(marks) == 40
    assert np.isclose(rendered.landmark_distance(marks + np.array([3, 4]), marks, 40), 12.5)
    assert np.isnan(rendered.landmark_distance(marks * np.nan, marks, 40))


def test_a_perfect_clip_has_the_best_scores_and_a_still_one_is_no_clip(case):
    scored = [
        rendered.clip_scores(
            clip,
            case.own,
            face=case.face[0],
            landmarks=case.landmarks[0],
            found=case.landmarks[0],
            motions=cases.MOTIONS,
        )
        for clip in (case.own, np.repeat(case.own[:1], len(case.own), axis=0))
    ]
    for motion, perfect, still in zip(cases.MOTIONS, *scored, strict=True):
        assert (perfect["psnr"], perfect["l1"], perfect["landmarks"]) == (100, 0, 0)
        assert still["psnr"] < 45 and still["l1"] > 0
        assert ("region" in perfect) == (motion in ("mouth", "blink"))

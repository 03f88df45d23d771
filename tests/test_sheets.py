"""Numbers on faces are drawn where the faces are."""

import numpy as np

from studykit.media.sheets import numbered, stacked


def test_boxes_are_drawn_where_they_are_in_a_picture_that_was_shrunk() -> None:
    sheet = np.asarray(numbered(np.zeros((1000, 1600, 3), np.uint8), [(800, 200, 1200, 600)], "a"))
    assert sheet.shape == (500 + 26, 800, 3)
    rows, columns = np.nonzero((sheet == [213, 94, 0]).all(axis=2))
    np.testing.assert_allclose([columns.min(), columns.max()], [400, 600], atol=2)
    np.testing.assert_allclose([rows.min() - 26, rows.max() - 26], [100, 300], atol=2)


def test_pictures_lie_below_each_other() -> None:
    pictures = [numbered(np.zeros((40, side, 3), np.uint8), [], "") for side in (60, 90)]
    assert stacked(pictures).size == (90, 2 * (40 + 26))

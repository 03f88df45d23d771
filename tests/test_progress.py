"""The bar counts every frame once, whoever reports of it and when."""

from studykit.clips.progress import Meter


def test_a_report_that_comes_after_its_cell_changes_nothing(capsys) -> None:
    with Meter(2, 12) as meter:
        meter.frame("a", 3)
        meter.end("a", 6)
        meter.frame("a", 6)
        meter.frame("b", 6)
        meter.end("b", 6)
    shown = capsys.readouterr().err
    assert "12/12" in shown
    assert "cell 2/2 b" in shown


def test_cells_may_be_at_hand_together(capsys) -> None:
    with Meter(2, 12) as meter:
        meter.frame("a", 2)
        meter.frame("b", 3)
        assert meter._bar.n == 5
        meter.end("b", 6)
        assert meter._bar.n == 8
        assert meter._bar.desc == "cell 2/2 a"

import pytest

from lstmfcn.progress import Progress


def test_without_a_terminal_a_line_now_and_then_tells_rate_and_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = [0.0]
    with Progress("predicted", 100.0, "MB", clock=lambda: seconds[0]) as progress:
        for seconds[0], work in ((4.0, 20.0), (12.0, 10.0), (15.0, 10.0), (30.0, 20.0)):
            progress.advance(work=work)

    assert capsys.readouterr().out.splitlines() == [
        "predicted: 30 of 100 MB, 2.5/s, about 28 s left",
        "predicted: 60 of 100 MB, 2.0/s, about 20 s left",
    ]


def test_work_too_small_to_count_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = [0.0]
    with Progress("predicted", 0.0, "MB", clock=lambda: seconds[0]) as progress:
        seconds[0] = 11.0
        progress.advance(work=0.0)

    assert capsys.readouterr().out == "predicted: 0 of 0 MB, 0.0/s, time left unknown\n"


def test_a_given_line_is_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training", 2, "epochs") as progress:
        progress.advance("epoch: 1")

    assert capsys.readouterr().out == "epoch: 1\n"


def test_work_done_before_counts_but_not_for_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = [0.0]
    with Progress("predicted", 100.0, "MB", clock=lambda: seconds[0]) as progress:
        progress.skip(50.0)
        progress.count("rows", 3000)
        progress.state = "1 of 2 files done"
        seconds[0] = 10.0
        progress.advance(work=10.0)

    assert capsys.readouterr().out == (
        "predicted: 60 of 100 MB, 1.0/s; 3,000 rows, 300/s; 1 of 2 files done, about 40 s left\n"
    )

import io
import os
import time

import pytest
from rich.console import Console

from lstmfcn import progress as lstmfcn_progress
from lstmfcn.progress import Progress, say


def test_rate_and_time_left_are_told() -> None:
    seconds = [0.0]
    with Progress("predicted", 100.0, "MB", clock=lambda: seconds[0]) as progress:
        progress.advance(work=20.0)
        progress.advance(work=10.0)
        seconds[0] = 12.0

        assert str(progress) == "predicted: 30 of 100 MB, 2.5/s, about 28 s left"


def test_without_a_terminal_lines_are_printed_though_nothing_gets_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lstmfcn_progress, "_SECONDS_BETWEEN_LINES", 0.01)
    with Progress("predicted", 100.0, "MB"):
        time.sleep(0.1)
    printed = capsys.readouterr().out.splitlines()
    time.sleep(0.05)

    assert set(printed) == {"predicted: 0 of 100 MB, time left unknown"}
    assert capsys.readouterr().out == ""


def test_work_too_small_to_count_breaks_nothing() -> None:
    seconds = [0.0]
    with Progress("predicted", 0.0, "MB", clock=lambda: seconds[0]) as progress:
        seconds[0] = 11.0
        progress.advance(work=0.0)

        assert str(progress) == "predicted: 0 of 0 MB, time left unknown"


def test_a_small_total_is_told_in_fractions() -> None:
    with Progress("predicted", 0.5, "MB") as progress:
        assert str(progress) == "predicted: 0.00 of 0.50 MB, time left unknown"


def test_a_given_line_is_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training", 2, "epochs") as progress:
        progress.advance("epoch: 1")

    assert capsys.readouterr().out == "epoch: 1\n"


def test_work_done_before_counts_but_not_for_the_rate() -> None:
    seconds = [0.0]
    with Progress("predicted", 100.0, "MB", clock=lambda: seconds[0]) as progress:
        progress.skip(50.0)
        progress.count("rows", 3000)
        progress.state = "1 of 2 files done"
        seconds[0] = 10.0
        progress.advance(work=10.0)

        assert str(progress) == (
            "predicted: 60 of 100 MB, 1.0/s; 3,000 rows, 300/s; 1 of 2 files done, about 40 s left"
        )


def test_slow_work_is_counted_by_the_minute() -> None:
    seconds = [0.0]
    with Progress("sweep", 8, "trials", clock=lambda: seconds[0]) as progress:
        seconds[0] = 120.0
        progress.advance()

        assert str(progress) == "sweep: 1 of 8 trials, 0.5/min, about 14 min left"


def test_the_bar_has_the_same_time_left_however_long_ago_the_work_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = [0.0]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("sweep", 8, "trials", clock=lambda: seconds[0]) as progress:
        seconds[0] = 120.0
        progress.advance()
        console = Console(file=io.StringIO(), width=80)
        console.print(progress._bar.get_renderable())

    shown = console.file
    assert isinstance(shown, io.StringIO)
    assert shown.getvalue().rstrip().endswith(" about 14 min left 1 of 8 trials, 0.5/min")


@pytest.mark.parametrize(
    ("left", "shown"),
    [(99, "99 s"), (100, "2 min"), (5900, "98 min"), (6000, "1.7 h"), (360_000, "100.0 h")],
)
def test_the_time_left_is_in_a_unit_that_suits_it(left: float, shown: str) -> None:
    seconds = [0.0]
    with Progress("sweep", 1 + left, "trials", clock=lambda: seconds[0]) as progress:
        seconds[0] = 1.0
        progress.advance()

        assert str(progress).endswith(f", about {shown} left")


def test_work_goes_on_when_nobody_reads_its_lines_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstmfcn_progress, "_SECONDS_BETWEEN_LINES", 0.01)
    reader, writer = os.pipe()
    with open(writer, "w") as lines:  # noqa: PTH123 (a descriptor)
        monkeypatch.setattr("sys.stdout", lines)
        os.close(reader)
        with Progress("predicted", 100.0, "MB") as progress:
            progress.advance("1 of 2 files done")
            time.sleep(0.1)
        say("all files")
        print("the end", flush=True)
        monkeypatch.undo()

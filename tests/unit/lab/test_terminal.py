"""The terminal, where tables are printed."""

import pytest

from spillover.lab.terminal import _between_lines, open_console


def test_a_line_of_a_table_is_not_cut_at_eighty_columns_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is room for the widest tables."""
    open_console().print("x" * 105)
    assert capsys.readouterr().out == "x" * 105 + "\n"


def test_off_a_terminal_progress_is_a_line_now_and_then() -> None:
    """Every ten seconds how much is done and what is left; at the end what it took."""
    now, said = iter(range(0, 1000, 6)), []
    assert list(_between_lines("abcde", "letters", said.append, lambda: float(next(now)))) == list("abcde")
    assert said == [
        "letters: 1 of 5, about 48 s left",
        "letters: 3 of 5, about 16 s left",
        "letters: done in 36 s",
    ]

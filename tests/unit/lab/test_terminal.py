"""The terminal, where tables are printed."""

import pytest

from spillover.lab.terminal import open_console


def test_a_line_of_a_table_is_not_cut_at_eighty_columns_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is room for the widest tables."""
    open_console().print("x" * 105)
    assert capsys.readouterr().out == "x" * 105 + "\n"

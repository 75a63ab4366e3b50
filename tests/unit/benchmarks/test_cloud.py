"""The server benchmark's reading of h2load, its goals, and its report."""

import io

import pytest
from rich.console import Console

from benchmarks.cloud.bench import Cell, Outcome
from benchmarks.cloud.load import LoadError, read_burst
from benchmarks.cloud.report import goals, print_report

PRINTED = """finished in 2.50s, {rate} req/s, 371.70KB/s
requests: 4 total, 4 started, 4 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {succeeded} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 804.98KB (824296) total, 176.09KB (180320) headers (space savings 92.26%), 364B ({data}) data
"""


@pytest.fixture
def log(tmp_path):
    """h2load's own log of four requests: 1, 2, 3 and 4 ms."""
    path = tmp_path / "h2load.log"
    path.write_text("".join(f"1732180000000000\t200\t{ms}000\n" for ms in (1, 2, 3, 4)))
    return path


def _printed(rate="1600.00", succeeded=4, data=364) -> str:
    return PRINTED.format(rate=rate, succeeded=succeeded, failed=4 - succeeded, data=data)


def test_a_burst_is_read(log):
    """Rate and latencies as h2load says; the server's processor time is shared among the requests."""
    burst = read_burst(_printed(), log, requests=4, cpu_s=0.010)
    assert burst.rate == 1600
    assert burst.p50_ms == pytest.approx(2.5)
    assert 3.9 < burst.p99_ms <= 4
    assert burst.cpu_ms == pytest.approx(2.5)


@pytest.mark.parametrize(
    "printed",
    [
        _printed(succeeded=3),
        _printed(data=0),
        _printed(data=363),
        "Could not connect to the server",
    ],
    ids=["one failed", "no answers", "answers of several lengths", "no connection"],
)
def test_answers_that_are_none_are_not_measured(log, printed):
    """A gRPC error is an HTTP 200 without a body; a burst with one is refused, with what h2load printed."""
    with pytest.raises(LoadError):
        read_burst(printed, log, requests=4, cpu_s=0.010)


def _cell(contender: str, network: str, concurrency: int, **figures: float) -> Cell:
    known = {"rate": 1, "of_raw": 1, "of_raw_batched": 1, "p50_ms": 1, "p99_ms": 1, "cpu_ms": 1, **figures}
    return Cell(contender, network, concurrency, **known)


def _outcome(*cells: Cell) -> Outcome:
    return Outcome(cells, {"spillover": 200.0}, {"mlserver": "no [network] here"}, None)


def _met(*cells: Cell) -> dict[str, bool]:
    return {text: met for text, _, met in goals(_outcome(*cells))}


def test_identity_is_judged_by_processor_time():
    """.6 of the rival a CPU second: 1.0 ms a request against 0.6 is just enough, whatever the rates."""
    rival = _cell("triton", "identity", 4, cpu_ms=0.6, rate=100)
    text = "identity, C=4: >= .6 of triton a CPU second"
    assert _met(_cell("spillover", "identity", 4, cpu_ms=1.0), rival) == {text: True}
    assert _met(_cell("spillover", "identity", 4, cpu_ms=1.1), rival) == {text: False}


def test_networks_that_compute_are_judged_by_their_rate():
    """As many answers a second as the rival; at 64 connections most of what the bare loop does in batches."""
    rival = _cell("triton", "mlp", 64, rate=100)
    assert _met(_cell("spillover", "mlp", 64, rate=100, of_raw_batched=0.79), rival) == {
        "mlp, C=64: >= triton": True,
        "mlp, C=64: >= .80 of raw in batches": False,
    }
    assert _met(_cell("spillover", "mlp", 4, rate=99), _cell("triton", "mlp", 4, rate=100)) == {
        "mlp, C=4: >= triton": False
    }


def test_a_rival_that_is_not_there_is_no_goal():
    """Without the rival only the bare loop is left to compare with; others are nobody's goal."""
    cells = _cell("spillover", "resnet18", 4, of_raw=0.97), _cell("mlserver", "resnet18", 4)
    assert _met(*cells) == {"resnet18, C=4: >= .97 of raw": True}


def test_the_report_says_what_was_missed_and_who_was_not_here():
    """Every goal is printed with its figure, and each contender that did not run with its reason."""
    text = io.StringIO()
    console = Console(file=text, width=200)
    print_report(_outcome(_cell("spillover", "resnet18", 16, of_raw=0.5)), console)
    assert "MISSED  resnet18, C=16: >= .97 of raw: 0.50" in text.getvalue()
    assert "not measured: mlserver: no [network] here" in text.getvalue()

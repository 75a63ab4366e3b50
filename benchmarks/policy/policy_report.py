"""Runs every measurement of policies and writes report.md: one section and one table a question."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.policy.held_out import SPLITS, at, held_out
from benchmarks.policy.pairs import BenchPair, bench_pairs
from benchmarks.policy.rules import budget_rows, decision_cost, link_frames, risk_rows
from benchmarks.reports import markdown_table
from spillover.common.tasks import spec_of
from spillover.edge.config import PictureVariant
from spillover.edge.policy.gain import GainModel
from spillover.lab.data.labelled import ClassLabels, open_labelled_set
from spillover.lab.files import write_json
from spillover.lab.pairs.evaluate.mixture import correct
from spillover.lab.pairs.fit.fit_report import fit_cells, save_fit_plot
from spillover.lab.pairs.fit.fitting import fit_pair, write_gain_file
from spillover.lab.pairs.fit.pair import Pair, predict_pair
from spillover.lab.pairs.fit.variants import VariantRow, measure_variants
from spillover.lab.pairs.replay.compare import Choice, Row, compare
from spillover.lab.pairs.replay.simulate import Setting
from spillover.lab.pairs.replay.trace import MODELS, model_trace
from spillover.lab.terminal import Progress

_GAIN_THRESHOLD = 0.25
_HELD_OUT = (0.1, 0.2, 0.3, 0.5)
_LINK_RUNS = 6
_VARIANTS_PICTURES = 150
_VARIANTS = (
    PictureVariant(85),
    PictureVariant(85, square=True),
    PictureVariant(75, 640),
    PictureVariant(75, 480, square=True),
    PictureVariant(60, 480),
    PictureVariant(60, 320, square=True),
    PictureVariant(60, 320),
)
_DEADLINES_S = {"satellite": 1.5}


def write_report(folder: Path, out: Path, progress: Progress, threads: int) -> Path:
    """Measure everything that can be measured here; returns the report's path."""
    out.mkdir(parents=True, exist_ok=True)
    sections = ["# What the policies are worth", "Written by `make bench-policy`."]
    for pair in bench_pairs(folder):
        if pair.missing is not None:
            sections.append(f"## {pair.name}\n\nPassed over: {pair.missing.name} is not there.")
        else:
            sections += _pair_sections(pair, out, progress, threads)
    sections += [_budget_section(), _link_section()]
    path = out / "report.md"
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return path


def _pair_sections(bench: BenchPair, out: Path, progress: Progress, threads: int) -> Iterator[str]:
    data = open_labelled_set(bench.data)
    pair = predict_pair(
        bench.edge, bench.cloud, data, progress, threads, bench.views, calibrate=bench.calibrate
    )
    fit = fit_pair(pair, progress)
    write_gain_file(out / f"{bench.name}.gain.json", fit.file)
    write_json(out / f"{bench.name}.json", fit.as_dict())
    save_fit_plot(fit, out / f"{bench.name}.png")
    cost = decision_cost(GainModel(fit.file), pair)
    yield (
        f"## {bench.name}: {fit.file.edge.model} -> {fit.file.cloud_model}, {fit.file.pictures} pictures\n\n"
        f"{fit.metric}: edge {fit.edge_accuracy:.3f}, cloud {fit.cloud_accuracy:.3f}. Share of the gap "
        f"closed in % (95 % bootstrap interval), by share sent; the expected gain is cross-fitted, 4 times 5 "
        f"folds.\n\n{markdown_table(*fit_cells(fit))}\n\n"
        f"A whole decision takes {cost.cpu_p50_us:.0f} us of the processor (99th percentile "
        f"{cost.cpu_p99_us:.0f} us), {cost.wall_p50_us:.0f} us by the clock ({cost.wall_p99_us:.0f} us)."
    )
    yield (
        f"### {bench.name}, held-out halves\n\nAll that is fitted, the calibration too, is fitted on one "
        f"half of the pictures and judged on the other: {SPLITS} splits, both ways. Mean (lowest .. highest)."
        "\n\n"
        + markdown_table(("policy", *(f"{share:.0%}" for share in _HELD_OUT)), _held_out_rows(pair, progress))
    )
    detects = spec_of(pair.task).locates
    if bench.views is None and bench.calibrate == detects and pair.data.name != "cifar10-dev":
        yield _variant_section(bench, pair, progress, threads)
    if isinstance(data.truth, ClassLabels) and bench.views is None:
        rows = risk_rows(pair, ~correct(data.truth, pair.edge_predictions))
        yield (
            f"### Risk bound on {bench.name}\n\nCalibrated on one half, counted on the other, 100 splits.\n\n"
            + markdown_table(
                ("alpha", "kept and wrong, mean", "worst split", "stays on the device"),
                (
                    (r.alpha, f"{r.mean_error:.4f}", f"{r.worst_error:.4f}", f"{r.kept_share:.0%}")
                    for r in rows
                ),
            )
        )


def _variant_section(bench: BenchPair, pair: Pair, progress: Progress, threads: int) -> str:
    """Bytes and fidelity on the first pictures of the set; squares for classifiers alone."""
    some = pair.labelled.part(range(min(_VARIANTS_PICTURES, len(pair.data.pictures))))
    detects = spec_of(pair.task).locates
    variants = [variant for variant in _VARIANTS if not (variant.square and detects)]
    rows = measure_variants(bench.cloud, some, variants, progress, threads)
    return (
        f"### {bench.name}, smaller pictures\n\nThe first {len(some.pictures)} pictures; kept: agreement of "
        "the cloud's answers with those to the first form (`lab fit --variants` writes it to the gain "
        "file).\n\n"
        + markdown_table(
            ("form", "bytes, mean", "of the first", "kept"),
            (_variant_cells(row, rows[0].mean_bytes) for row in rows),
        )
    )


def _variant_cells(row: VariantRow, usual_bytes: float) -> Sequence[str]:
    of_first = row.mean_bytes / usual_bytes
    return row.name, f"{row.mean_bytes:.0f}", f"{of_first:.0%}", f"{row.fidelity:.1%}"


def _held_out_rows(pair: Pair, progress: Progress) -> Iterator[Sequence[str]]:
    for name, shares in held_out(pair, progress).items():
        columns = [100 * shares[:, at(share)] for share in _HELD_OUT]
        yield name, *(f"{c.mean():.0f} ({c.min():.0f}..{c.max():.0f})" for c in columns)


def _budget_section() -> str:
    rows = (
        (r.drift, f"{r.budget_share:.0%}", r.bucket_frames, f"{r.reward_share:.1%}", r.over_budget_bytes)
        for r in budget_rows()
    )
    head = ("drift of scores", "budget", "bucket, frames", "of the best possible reward", "bytes over budget")
    return "## Byte budget: the rank rule against a picker who sees all frames at once\n\n" + markdown_table(
        head, rows
    )


def _link_section() -> str:
    rows = []
    for name in MODELS:
        setting = Setting(deadline_s=_DEADLINES_S.get(name, 0.5))
        runs: dict[str, list[Row]] = {}
        for seed in range(_LINK_RUNS):
            trace = model_trace(name, seed)
            for row in compare(link_frames(seed), [trace], setting, Choice(threshold=_GAIN_THRESHOLD)):
                runs.setdefault(row.policy, []).append(row)
        for policy, played in runs.items():
            on_time, gain = [row.on_time_share for row in played], [row.gain_share for row in played]
            sent = round(mean(row.sent for row in played))
            shares = f"{mean(on_time):.1%}", f"{min(on_time):.1%}", f"{mean(gain):.0%}"
            rows.append((name, setting.deadline_s, policy, sent, *shares))
    head = ("link", "deadline, s", "policy", "sent", "on time", "lowest", "gain that arrived in time")
    text = f"Means of {_LINK_RUNS} runs of ten minutes, each with frames and a link of its own."
    return f"## Links: threshold alone against the measured link\n\n{text}\n\n{markdown_table(head, rows)}"

"""Results as Markdown: a table for each workload, and one for the targets."""

from collections.abc import Iterator, Mapping, Sequence

from .contenders import CONTENDERS
from .ratios import Figure, compare
from .results import Results
from .statistics import Spread
from .targets import TARGETS, Target
from .workloads import Workload

__all__ = ["machine_lines", "number", "ratio", "report", "table", "targets_lines"]

TITLES = {
    "cpu_us": "CPU us",
    "deliveries_per_s": "deliveries/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "lost": "lost",
    "connections_per_s": "connections/s",
    "connect_cpu_us": "CPU us per connect",
    "open_cpu_us": "CPU us to open",
    "close_cpu_us": "CPU us to close",
    "churn_cpu_us": "CPU us for both",
    "kb_per_connection": "kB per connection",
    "grown_mb": "MB grown",
    "ns_per_member": "ns per member",
    "publishes_per_s": "publishes/s",
    "publish_cpu_us": "CPU us per publish",
    "wire_bytes": "bytes on the wire",
    "engine_bytes": "bytes in the server",
}

NOTE = """CPU is the server's, all threads, per delivered message. Figures are medians over the
rounds; ratios are of the same round: their median, and in brackets the least and the most.
What is slower than the others gets a part of each burst:"""

QUICK = "**A quick run**: one round of smaller workloads and fewer contenders. Quote a whole one."


def report(
    workloads: Sequence[Workload],
    results: Results,
    machine: Mapping[str, str],
    is_quick: bool = False,
) -> str:
    """The whole report."""
    lines = ["# Benchmark", "", *machine_lines(machine), "", f"{NOTE} {_shares()}.", ""]
    lines += [QUICK, ""] if is_quick else []
    for workload in workloads:
        lines += [f"## {workload.name}", "", f"{workload.title}.", ""]
        lines += [*_workload_table(workload, results), "", *_skipped(workload, results)]
    return "\n".join([*lines, "## Targets", "", *targets_lines(TARGETS, results), ""])


def machine_lines(machine: Mapping[str, str]) -> list[str]:
    """What the machine is, as a list."""
    return [f"- {name}: {value}" for name, value in machine.items()]


def targets_lines(targets: Sequence[Target], results: Results) -> list[str]:
    """The table of targets and verdicts."""
    rows = [
        [target.title, target.limit, ratio(target.measured(results)), target.verdict(results)]
        for target in targets
    ]
    return table(["what", "target", "measured", "verdict"], rows)


def _shares() -> str:
    few = [contender for contender in CONTENDERS.values() if contender.share < 1]
    return ", ".join(f"{contender.title} {contender.share:.0%}" for contender in few)


def _workload_table(workload: Workload, results: Results) -> list[str]:
    heads = [TITLES[name] for name in workload.columns]
    ratios = [column.title for column in workload.ratios]
    return table(["contender", "case", *heads, *ratios], list(_rows(workload, results)))


def _rows(workload: Workload, results: Results) -> Iterator[list[str]]:
    for case in results.cases(workload.name):
        for contender in results.contenders(workload.name):
            key = (workload.name, case, contender)
            if not results.rounds(*key):
                continue
            figures = [
                compare(Figure(*key, name), None, "ratio", results) for name in workload.columns
            ]
            ratios = [column.of(*key, results) for column in workload.ratios]
            cells = [number(found.median) if found else "-" for found in figures]
            yield [CONTENDERS[contender].title, case, *cells, *map(ratio, ratios)]


def _skipped(workload: Workload, results: Results) -> Iterator[str]:
    reasons = [
        f"- without {CONTENDERS[contender].title}: {reason.splitlines()[0]}"
        for (name, contender), reason in results.skipped.items()
        if name == workload.name
    ]
    yield from [*reasons, ""] if reasons else []


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns are also aligned as plain text."""
    every = [heads, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(heads))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in every
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def number(value: float) -> str:
    """A figure with as many digits as mean something."""
    if value == round(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def ratio(found: Spread | None) -> str:
    """A median and its spread."""
    if found is None:
        return "-"
    return f"{number(found.median)} ({number(found.low)} to {number(found.high)})"

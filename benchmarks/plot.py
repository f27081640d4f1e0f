"""Results as pictures: one for each question, narrow enough to be read on a phone."""

from pathlib import Path
from typing import Any, NamedTuple

from .contenders import CONTENDERS
from .ratios import Figure, How, compare
from .results import Results
from .statistics import Spread
from .workloads.burst import ONE
from .workloads.churn import CHURN
from .workloads.paced import PACED
from .workloads.private import PRIVATE

__all__ = ["draw"]

OURS, RAW, OTHERS, TEXT = "#1f6fb2", "#22303c", "#b3bcc2", "#22303c"

BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # no line goes through words

RAW_LOOP = "raw"
# Who is in the pictures, where they have the figure; the report has all.
SHOWN = frozenset(
    {
        RAW_LOOP, "ours_async", "ours_notification", "ours_sync", "ours_sse", "websockets",
        "broadcaster", "litestar", "socketio", "channels",
    }
)  # fmt: skip
FAR = 6.0  # bars of more than this many times the loop's end there, and say how long they are


class Question(NamedTuple):
    """One picture: what it asks, and the figure that answers.

    Args:
        file: its name, without ``.png``.
        asks: the title.
        unit: below the title, with what the figure means.
        workload: of the figure, with its case and its name.
        is_ratio: whether it is set against the hand-written loop of the same round.
    """

    file: str
    asks: str
    unit: str
    workload: str
    case: str
    name: str
    is_ratio: bool = True


QUESTIONS = (
    Question(
        "burst", "What does a message to 500 clients cost?",
        "server CPU for each delivery in a burst, over the hand-written loop's",
        "burst", ONE, "cpu_us",
    ),
    Question(
        "steady", "And at a steady rate?",
        "server CPU for each delivery, 1,000 clients, 20 messages a second, over the loop's",
        "paced", PACED, "cpu_us",
    ),
    Question(
        "private", "A message of one's own for each of 5,000 users?",
        "server CPU for each delivery, over the hand-written loop's",
        "private", PRIVATE, "cpu_us",
    ),
    Question(
        "late", "How late are the last clients?",
        "99 of 100 have it after so many milliseconds; 1,000 clients, 20 messages a second",
        "paced", PACED, "p99_ms", is_ratio=False,
    ),
    Question(
        "churn", "What does it cost to come and go?",
        "server CPU to open and close a connection, over the hand-written loop's",
        "churn", CHURN, "churn_cpu_us",
    ),
    Question(
        "memory", "What does an idle connection hold?",
        "kB for each of 1,000 connections", "scale", "1,000", "kb_per_connection",
        is_ratio=False,
    ),
)  # fmt: skip


def draw(results: Results, folder: Path) -> list[Path] | str:
    """Write the pictures as PNG, and return them; where there are none, return why."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        return "it needs matplotlib: pip install 'asgi-notify[bench]'"
    files: list[Path] = []
    for question in QUESTIONS:
        bars = _bars(question, results)
        if len(bars) < 2:
            continue
        # Names stand above their bars, since beside them they would take half of a phone's width.
        canvas = Canvas(figsize=(4.3, 0.85 + 0.42 * len(bars)), layout="constrained")
        _draw(canvas.subplots(), question, bars)
        files.append(folder / f"{question.file}.png")
        canvas.savefig(files[-1], dpi=200)
    return files or "nothing was measured that they show"


def _bars(question: Question, results: Results) -> dict[str, Spread]:
    """The answers, the least first."""
    bars: dict[str, Spread] = {}
    how: How = "ratio"
    for contender in SHOWN.intersection(results.contenders(question.workload)):
        figure = Figure(question.workload, question.case, contender, question.name)
        loop = Figure(question.workload, question.case, RAW_LOOP, question.name)
        if found := compare(figure, loop if question.is_ratio else None, how, results):
            bars[contender] = found
    return dict(sorted(bars.items(), key=lambda bar: bar[1].median))


def _draw(axis: Any, question: Question, bars: dict[str, Spread]) -> None:
    longest = max(bar.median for bar in bars.values())
    limit = min(longest, FAR) if question.is_ratio else longest
    for place, (contender, bar) in enumerate(bars.items()):
        is_cut = bar.median > limit
        axis.barh(place, min(bar.median, limit), height=0.42, color=_color(contender))
        if not is_cut:
            axis.plot([bar.low, min(bar.high, limit)], [place, place], color=TEXT, linewidth=0.8)
        if is_cut:  # a gap, as of a bar that goes on
            axis.plot([0.955 * limit] * 2, [place - 0.3, place + 0.3], color="white", linewidth=3)
        words = {"fontsize": 8, "color": TEXT, "bbox": BEHIND}
        axis.text(0, place - 0.3, CONTENDERS[contender].title, va="bottom", **words)
        end = max(min(bar.high, limit), min(bar.median, limit))
        axis.text(1.02 * end, place, _label(bar.median), va="center", weight="bold", **words)
    if question.is_ratio:
        axis.axvline(1, color=RAW, linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
    axis.set_xlim(0, 1.14 * limit)
    axis.set_ylim(len(bars) - 0.5, -0.9)
    axis.set_title(question.asks, fontsize=10.5, weight="bold", loc="left", color=TEXT, pad=16, x=0)
    axis.text(0, 1.0, question.unit, transform=axis.transAxes, fontsize=6.6, color=TEXT,
              va="bottom")  # fmt: skip
    axis.set_axis_off()


def _label(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _color(contender: str) -> str:
    return RAW if contender.startswith("raw") else OURS if contender.startswith("ours_") else OTHERS

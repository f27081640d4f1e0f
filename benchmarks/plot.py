"""Results as a picture: bars for the figures that matter most, with their spread."""

from pathlib import Path
from typing import Any, NamedTuple

from .contenders import CONTENDERS
from .ratios import Figure, compare
from .results import Results
from .statistics import Spread
from .workloads.burst import ONE, TRAIN
from .workloads.paced import PACED
from .workloads.private import PRIVATE

__all__ = ["draw"]

OURS, RAW, OTHERS = "#2471a3", "#2c3e50", "#aab7b8"


class Panel(NamedTuple):
    """One figure of one case, for all contenders that have it."""

    title: str
    workload: str
    case: str
    name: str


PANELS = (
    Panel("burst: server CPU per delivery, us", "burst", ONE, "cpu_us"),
    Panel("trains of 10: server CPU per delivery, us", "burst", TRAIN, "cpu_us"),
    Panel("private: server CPU per delivery, us", "private", PRIVATE, "cpu_us"),
    Panel("paced: p99 from publish to receipt, ms", "paced", PACED, "p99_ms"),
    Panel("1,000 idle connections: kB for each", "scale", "1,000", "kb_per_connection"),
    Panel("1,000 idle connections: opened per second", "scale", "1,000", "connections_per_s"),
)


def draw(results: Results, file: Path) -> str | None:
    """Write the picture as PNG; where there is none, return why."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        return "it needs matplotlib: pip install 'asgi-notify[bench]'"
    panels = [(panel, bars) for panel in PANELS if (bars := _bars(panel, results))]
    if not panels:
        return "nothing was measured that it shows"
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    canvas = Canvas(figsize=(7.5 * columns, 3.2 * rows), layout="constrained")
    axes = list(canvas.subplots(rows, columns, squeeze=False).flat)
    for (panel, bars), axis in zip(panels, axes, strict=False):
        _draw_panel(axis, panel, bars)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    canvas.savefig(file, dpi=130)
    return None


def _bars(panel: Panel, results: Results) -> dict[str, Spread]:
    bars: dict[str, Spread] = {}
    for contender in results.contenders(panel.workload):
        figure = Figure(panel.workload, panel.case, contender, panel.name)
        if found := compare(figure, None, "ratio", results):
            bars[contender] = found
    return bars


def _draw_panel(axis: Any, panel: Panel, bars: dict[str, Spread]) -> None:
    names = list(reversed(bars))
    found = [bars[name] for name in names]
    medians = [one.median for one in found]
    errors = [[one.median - one.low for one in found], [one.high - one.median for one in found]]
    axis.barh(
        [CONTENDERS[name].title for name in names],
        medians,
        xerr=errors,
        color=[_color(name) for name in names],
        error_kw={"elinewidth": 1, "capsize": 2},
    )
    for place, median in enumerate(medians):
        axis.annotate(f" {median:,.3g}" if median < 1000 else f" {median:,.0f}", (median, place),
                      va="bottom", fontsize=8)  # fmt: skip
    if max(medians) > 20 * min(medians):
        axis.set_xscale("log")
        axis.set_xlim(left=1)
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _color(contender: str) -> str:
    return RAW if contender.startswith("raw") else OURS if contender.startswith("ours_") else OTHERS

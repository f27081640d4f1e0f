"""What a workload is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..contenders import Contender
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options

__all__ = ["CPU_OVER_RAW", "Workload"]

CPU_OVER_RAW = Ratio("CPU / raw", "cpu_us", contender="raw")


@dataclass(frozen=True)
class Workload:
    """One thing to measure.

    Args:
        name: for the command line.
        title: one line for people.
        measure: makes one trial of a contender; figures by the name of the case.
        contenders: who takes part, in this order.
        rounds: how often each of them does.
        quick: who takes part in a quick run.
        left_out: why the others do not.
        columns: the figures to show.
        ratios: what they are set against.
    """

    name: str
    title: str
    measure: Callable[[Contender, Options], dict[str, Figures]]
    contenders: tuple[str, ...]
    columns: tuple[str, ...]
    ratios: tuple[Ratio, ...] = (CPU_OVER_RAW,)
    rounds: int = 3
    quick: tuple[str, ...] = ("raw", "ours_async", "ours_blocking")
    left_out: Mapping[str, str] = field(default_factory=dict)

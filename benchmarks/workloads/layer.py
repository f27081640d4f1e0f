"""The layer alone: what a send to a group costs per member, without any socket."""

from ..contenders import Contender
from ..control import Child
from ..results import Figures
from ..trial import Options
from .base import Workload

__all__ = ["WORKLOAD"]

SIZES = (10, 1_000, 100_000)  # members
MOST = {"channels": 1_000}  # it makes a task for each member


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Time sends to groups of several sizes, in a process of their own."""
    sizes = [size for size in SIZES if size <= MOST.get(contender.name, size)]
    with Child("benchmarks.layers", contender.name, core=options.pins.server) as layers:
        return {f"{size:,}": layers.ask("measure", members=size) for size in sizes}


WORKLOAD = Workload(
    name="layer",
    title="group_send to mailboxes that nobody reads, without any socket",
    measure=measure,
    contenders=("ours_async", "channels"),
    ratios=(),
    quick=("ours_async", "channels"),
    columns=("ns_per_member",),
)

"""Blocking: whether handlers in threads run side by side."""

from ..contenders import Contender
from ..publisher import Job
from ..results import Figures
from ..trial import Options, Trial
from .base import Workload

__all__ = ["BLOCKING", "WORKLOAD"]

CLIENTS = 50

BLOCKING = "blocking"


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Send one message to all, whose handlers block for 0.1 s each."""
    with Trial.of(contender, options) as trial:
        trial.connect(CLIENTS)  # the threads are there when it is done
        return {BLOCKING: trial.publish(Job(1))}


WORKLOAD = Workload(
    name="blocking",
    title=f"{CLIENTS} clients whose synchronous handlers block for 0.1 s, in 40 threads",
    measure=measure,
    contenders=("ours_blocking",),
    ratios=(),
    columns=("p50_ms", "p99_ms", "max_ms", "lost"),
)

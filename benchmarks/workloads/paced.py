"""Paced: one group, messages at a steady rate; what counts is how late they come."""

from ..contenders import Contender
from ..publisher import Job
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options, Trial
from .base import CPU_OVER_RAW, Workload

__all__ = ["PACED", "WORKLOAD"]

CLIENTS, RATE, SECONDS = 1000, 20.0, 4

PACED = "paced"


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Send for some seconds, after one to warm up."""
    with Trial.of(contender, options) as trial:
        trial.connect(CLIENTS)
        trial.publish(Job(int(RATE), rate=RATE))
        messages = int(RATE * options.size(SECONDS, 2))
        return {PACED: trial.publish(Job(messages, rate=RATE))}


WORKLOAD = Workload(
    name="paced",
    title=f"{CLIENTS} clients in one group, {RATE:.0f} messages of 128 bytes per second",
    measure=measure,
    contenders=(
        "raw",
        "raw_gathered",
        "ours_async",
        "ours_async_stock",
        "ours_notification",
        "websockets",
        "broadcaster",
        "litestar",
    ),
    columns=("cpu_us", "p50_ms", "p99_ms", "max_ms", "lost"),
    ratios=(CPU_OVER_RAW, Ratio("p99 / raw", "p99_ms", contender="raw")),
    left_out={
        "ours_sse": "what it adds to a delivery is in the burst",
        "ours_sync": "a thread for each of 20,000 deliveries per second is not what it is for",
        "socketio": "it cannot keep up with 20,000 deliveries per second",
        "channels_sync": "it cannot keep up with 20,000 deliveries per second",
        "channels": "it cannot keep up with 20,000 deliveries per second",
    },
)

"""Many groups: whether a send to one group feels that there are others."""

from ..contenders import Contender
from ..publisher import Job
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options, Trial
from .base import CPU_OVER_RAW, Workload

__all__ = ["ALONE", "AMONG", "WORKLOAD"]

CLIENTS, OTHERS, MESSAGES = 100, 20_000, 500

FEW = {"channels": 5}  # messages; each send takes it half a second here

ALONE, AMONG = "alone", "among others"


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Send to the group before and after the others are made, in one server."""
    messages = FEW.get(contender.name, options.size(MESSAGES, MESSAGES // 5))
    with Trial.of(contender, options) as trial:
        trial.connect(CLIENTS)
        trial.publish(Job(20))
        alone = trial.publish(Job(messages))
        trial.add_others(OTHERS)
        return {ALONE: alone, AMONG: trial.publish(Job(messages))}


WORKLOAD = Workload(
    name="many-groups",
    title=f"one group of {CLIENTS} clients, alone and among {OTHERS:,} groups that get nothing",
    measure=measure,
    contenders=(
        "raw",
        "ours_async",
        "ours_notification",
        "websockets",
        "broadcaster",
        "litestar",
        "socketio",
        "channels",
    ),
    columns=("cpu_us", "deliveries_per_s", "p50_ms", "p99_ms", "lost"),
    ratios=(CPU_OVER_RAW, Ratio("CPU / alone", "cpu_us", case=ALONE)),
    left_out={
        "channels_sync": "it shares the layer of the asynchronous consumer",
        "ours_sync": "it shares the layer of the asynchronous consumer",
        "ours_sse": "it shares the layer of the asynchronous consumer",
    },
)

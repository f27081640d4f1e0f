"""Burst: one group, messages as fast as they go; one per turn of the loop, then in trains."""

from ..contenders import Contender
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options, Trial
from .base import CPU_OVER_RAW, Workload

__all__ = ["ONE", "TRAIN", "WORKLOAD"]

CLIENTS, MESSAGES = 500, 200
WARM_UP = 10  # messages
LENGTH = 10  # messages of a train

CONTENDERS = (
    "raw",
    "raw_gathered",
    "ours_async",
    "ours_async_stock",
    "ours_notification",
    "ours_sync",
    "ours_sse",
    "websockets",
    "broadcaster",
    "litestar",
    "socketio",
    "channels",
    "channels_sync",
    "ours_valkey",
    "channels_redis",
    "channels_pubsub",
)

ONE, TRAIN = "one per turn", "10 per turn"


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Send the burst in both ways, to the same clients."""
    messages = options.size(MESSAGES, MESSAGES // 4)
    with Trial.of(contender, options) as trial:
        connecting = trial.connect(CLIENTS)
        trial.publish(trial.burst(WARM_UP))
        one = trial.publish(trial.burst(messages))
        train = trial.publish(trial.burst(messages, train=LENGTH))
    return {ONE: {**one, **connecting}, TRAIN: train}


WORKLOAD = Workload(
    name="burst",
    title=f"{CLIENTS} clients in one group, {MESSAGES} messages of 128 bytes as fast as they go",
    measure=measure,
    contenders=CONTENDERS,
    quick=CONTENDERS,
    columns=(
        "cpu_us",
        "deliveries_per_s",
        "p50_ms",
        "p99_ms",
        "lost",
        "connections_per_s",
    ),
    ratios=(
        CPU_OVER_RAW,
        Ratio("CPU / raw, one per turn", "cpu_us", contender="raw", case=ONE),
    ),
    rounds=5,
)

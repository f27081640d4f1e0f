"""Private: a group for each client, as notifications have it."""

from ..contenders import Contender
from ..publisher import Job
from ..results import Figures
from ..trial import Options, Trial
from .base import Workload

__all__ = ["PRIVATE", "WORKLOAD"]

CLIENTS, REPEATS = 5000, 5

PRIVATE = "private"


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Send a message to each, in random order, and so several times."""
    clients = options.size(CLIENTS, CLIENTS // 5)
    with Trial.of(contender, options) as trial:
        connecting = trial.connect(clients, groups=clients)
        return {PRIVATE: {**trial.publish(Job(REPEATS, groups=clients)), **connecting}}


WORKLOAD = Workload(
    name="private",
    title=f"{CLIENTS} groups of one client, a message to each in random order, {REPEATS} times",
    measure=measure,
    contenders=(
        "raw",
        "ours_async",
        "ours_valkey",
        "ours_notification",
        "ours_sse",
        "websockets",
        "broadcaster",
        "litestar",
        "socketio",
    ),
    columns=("cpu_us", "deliveries_per_s", "p50_ms", "p99_ms", "lost", "connections_per_s"),
    left_out={
        "ours_sync": "its threads cost the same here as in the burst",
        "channels_sync": "each send looks through all groups, which takes minutes",
        "channels": "each send looks through all groups, which takes minutes",
    },
)

"""Scale: what thousands of idle connections cost, and then one message to all of them."""

from ..contenders import Contender
from ..publisher import Job
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options, Trial
from .base import Workload

__all__ = ["WORKLOAD"]

SIZES = (1_000, 5_000, 15_000)  # connections
MOST = {"channels": 1_000, "socketio": 5_000, "ours_sse": 5_000}  # more would take minutes


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Connect more and more clients, and look at the server after each step."""
    sizes = SIZES[:1] if options.is_quick else SIZES
    cases: dict[str, Figures] = {}
    with Trial.of(contender, options) as trial:
        empty, connected = trial.memory(), 0
        for size in sizes:
            if size > MOST.get(contender.name, size):
                continue
            connecting = trial.connect(size - connected)
            connected = size
            memory = (trial.memory() - empty) / size / 1000
            broadcast = trial.publish(Job(1), quiet=10.0)
            cases[f"{size:,}"] = {**broadcast, **connecting, "kb_per_connection": memory}
    return cases


WORKLOAD = Workload(
    name="scale",
    title="idle connections to one process, and then one message to all of them",
    measure=measure,
    contenders=(
        "raw",
        "ours_async",
        "ours_notification",
        "ours_sse",
        "websockets",
        "broadcaster",
        "litestar",
        "socketio",
        "channels",
    ),
    columns=(
        "connections_per_s",
        "connect_cpu_us",
        "kb_per_connection",
        "cpu_us",
        "max_ms",
        "lost",
    ),
    ratios=(Ratio("kB above raw", "kb_per_connection", contender="raw", how="difference"),),
    rounds=3,
    left_out={
        "ours_sync": "it holds its connections as the asynchronous consumer does",
        "channels_sync": "it holds its connections as the asynchronous consumer does",
    },
)

"""Slow readers: whether clients that do not read are felt by those that do."""

from ..contenders import Contender
from ..publisher import Job
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options, Trial
from .base import Workload

__all__ = ["WITH", "WITHOUT", "WORKLOAD"]

CLIENTS, SLOW = 500, 25
RATE, SECONDS = 50.0, 5  # messages per second
SIZE = 4096  # bytes of a message
RECEIVE_BUFFER = 4096  # bytes of a slow client, in the kernel
SEND_BUFFER = 32 * 1024  # bytes of each client, in the server's kernel

WITHOUT, WITH = "without", "with slow readers"


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Send at a steady rate, without and then with clients that do not read."""
    seconds = options.size(SECONDS, 4)
    job = Job(int(RATE * seconds), rate=RATE, size=SIZE)
    with Trial.of(contender, options) as trial:
        trial.shrink_send_buffers(SEND_BUFFER)
        trial.connect(CLIENTS - SLOW)
        trial.publish(Job(int(RATE), rate=RATE, size=SIZE))
        without = _grown(trial, job)
        trial.connect_slow(SLOW, RECEIVE_BUFFER)
        return {WITHOUT: without, WITH: _grown(trial, job)}


def _grown(trial: Trial, job: Job) -> Figures:
    before = trial.memory()
    figures = trial.publish(job)
    return {**figures, "grown_mb": (trial.memory() - before) / 1e6}


WORKLOAD = Workload(
    name="slow-readers",
    title=f"{CLIENTS} clients in one group, {RATE:.0f} messages of 4 kB per second; "
    f"{SLOW} of the clients do not read",
    measure=measure,
    contenders=("raw", "ours_async", "ours_notification", "websockets", "broadcaster", "litestar"),
    columns=("cpu_us", "p50_ms", "p99_ms", "max_ms", "lost", "grown_mb"),
    rounds=2,
    ratios=(Ratio("p99 / without", "p99_ms", case=WITHOUT),),
    left_out={
        "ours_sse": "it shares the mailboxes of the asynchronous consumer",
        "ours_sync": "it shares the mailboxes of the asynchronous consumer",
        "socketio": "it cannot keep up with 25,000 deliveries per second",
        "channels": "it cannot keep up with 25,000 deliveries per second",
    },
)

"""Slow readers: whether clients that do not read are felt by those that do."""

from ..contenders import Contender
from ..publisher import Job
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options, Trial, rotated
from .base import Workload

__all__ = ["AGAIN", "WITH", "WITHOUT", "WORKLOAD"]

CLIENTS, SLOW = 500, 25
RATE, SECONDS = 50.0, 4  # messages per second
SIZE = 4096  # bytes of a message
RECEIVE_BUFFER = 4096  # bytes of a slow client, in the kernel
SEND_BUFFER = 32 * 1024  # bytes of each client, in the server's kernel

WITHOUT, AGAIN, WITH = "without", "without, once more", "with slow readers"


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Send at a steady rate, twice without and once with clients that do not read.

    Each case has a server of its own, and another place in each round. What the
    two cases without differ by is how far this workload can be trusted.
    """
    order = rotated((WITHOUT, AGAIN, WITH), options.round)
    return {case: _measure(case, contender, options) for case in order}


def _measure(case: str, contender: Contender, options: Options) -> Figures:
    job = Job(int(RATE * options.size(SECONDS, 2)), rate=RATE, size=SIZE)
    with Trial.of(contender, options) as trial:
        trial.shrink_send_buffers(SEND_BUFFER)
        trial.connect(CLIENTS - SLOW)
        trial.publish(Job(int(RATE), rate=RATE, size=SIZE))
        if case == WITH:
            trial.connect_slow(SLOW, RECEIVE_BUFFER)
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
    rounds=3,
    ratios=(Ratio("p99 / without", "p99_ms", case=WITHOUT),),
    left_out={
        "ours_sse": "it shares the mailboxes of the asynchronous consumer",
        "ours_sync": "it shares the mailboxes of the asynchronous consumer",
        "socketio": "it cannot keep up with 25,000 deliveries per second",
        "channels_sync": "it cannot keep up with 25,000 deliveries per second",
        "channels": "it cannot keep up with 25,000 deliveries per second",
    },
)

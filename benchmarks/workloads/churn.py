"""Churn: what it costs to open a connection, and to close it again."""

from ..contenders import Contender
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options, Trial
from .base import Workload

__all__ = ["CHURN", "WORKLOAD"]

CLIENTS, TURNS = 500, 6
WARM_UP = 50  # clients

CHURN = "churn"


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Have clients come, say goodbye and go, several times."""
    turns = options.size(TURNS, TURNS // 2)
    with Trial.of(contender, options) as trial:
        trial.churn(WARM_UP, 1)
        return {CHURN: trial.churn(CLIENTS, turns)}


WORKLOAD = Workload(
    name="churn",
    title=f"{CLIENTS} clients that open a WebSocket, close it and come again, {TURNS} times",
    measure=measure,
    contenders=(
        "raw",
        "raw_gathered",
        "ours_async",
        "ours_async_stock",
        "ours_notification",
        "ours_sync",
        "websockets",
        "broadcaster",
        "litestar",
        "channels",
        "channels_sync",
    ),
    left_out={
        "ours_sse": "it opens no WebSocket",
        "ours_valkey": "its connections cost what those of the asynchronous consumer do",
        "socketio": "it closes its connections in a way of its own",
        "channels_redis": "its connections cost what those of Channels do",
        "channels_pubsub": "its connections cost what those of Channels do",
    },
    quick=("raw", "ours_async", "ours_sync"),
    columns=("open_cpu_us", "close_cpu_us", "churn_cpu_us"),
    ratios=(
        Ratio("open / raw", "open_cpu_us", contender="raw"),
        Ratio("both / raw", "churn_cpu_us", contender="raw"),
    ),
    rounds=5,
)

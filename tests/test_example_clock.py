"""The example of a clock over server-sent events, on a real server."""

import time

import httpx
import pytest

from tests.eventstream import Dispatched, EventStream
from tests.servers import Server

pytestmark = pytest.mark.slow

OPTIONS = ("--timeout-graceful-shutdown", "1")


def read(url: str, count: int, **headers: str) -> tuple[list[Dispatched], EventStream]:
    """The first events of a stream, and the stream as far as it has come."""
    stream, events = EventStream(), list[Dispatched]()
    with httpx.stream("GET", url, headers=headers, timeout=10) as response:
        assert response.status_code == 200
        chunks = response.iter_raw()
        while len(events) < count:
            events += stream.feed(next(chunks))
    return events, stream


def test_it_ticks_and_tells_who_comes_back_what_was_missed() -> None:
    with Server("uvicorn-websockets-sansio", "examples.clock_sse:app", options=OPTIONS) as server:
        url = f"{server.http}/clock"
        assert "new EventSource" in httpx.get(server.http).text
        ticks, stream = read(url, 2)
        assert stream.retry == 1000
        assert [event.event for event in ticks] == ["tick", "tick"]
        assert int(ticks[1].id) - int(ticks[0].id) == 1
        before = str(int(time.time()) - 100)
        (missed,), _ = read(url, 1, **{"last-event-id": before})
        assert missed.event == "missed"
        assert 100 <= int(missed.data.split()[1]) < 110
        assert httpx.get(url, headers={"last-event-id": "x"}).status_code == 400
        assert server.stop().seconds < 5
        assert "Traceback" not in server.output

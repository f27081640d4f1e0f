"""The example of event routing works as its docstring says, on a real server."""

from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.servers import Server

pytestmark = pytest.mark.slow

WAIT = 10  # seconds until a frame that is on its way counts as lost


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("uvicorn-websockets-sansio", "examples.event_routing:application") as server:
        yield server


def test_a_posted_line_reaches_the_readers_of_that_blog(server: Server) -> None:
    with (
        connect(f"{server.ws}/liveblog/launch/stream/") as reader,
        connect(f"{server.ws}/liveblog/other/stream/") as other,
    ):
        for socket in reader, other:  # an answer says that the group was joined
            socket.send("/count")
            assert '"lines": 0' in socket.recv(WAIT, decode=True)
        response = httpx.post(f"{server.http}/liveblog/launch/", content="Liftoff")
        assert (response.status_code, response.text) == (202, "1 readers\n")
        assert reader.recv(WAIT) == "Liftoff"
        reader.send("/count")
        assert reader.recv(WAIT) == '{"blog": "launch", "lines": 1}'
        other.send("/count")
        assert other.recv(WAIT) == '{"blog": "other", "lines": 0}'


def test_a_line_longer_than_a_servers_buffer_arrives_whole(server: Server) -> None:
    line = "x" * 300_000
    with connect(f"{server.ws}/liveblog/launch/stream/") as reader:
        reader.send("/count")
        reader.recv(WAIT)
        httpx.post(f"{server.http}/liveblog/launch/", content=line).raise_for_status()
        assert reader.recv(WAIT) == line


def test_what_no_route_takes_is_refused_with_404(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"{server.ws}/liveblog/launch/"):
        pass
    assert refused.value.response.status_code == 404
    assert httpx.get(f"{server.http}/liveblog/launch/").status_code == 404


def test_the_server_stops_with_a_reader_connected_and_has_logged_no_error() -> None:
    with Server("uvicorn-websockets-sansio", "examples.event_routing:application") as server:
        with connect(f"{server.ws}/liveblog/launch/stream/"):
            exit = server.stop()
        assert exit.seconds < 5
        assert "Traceback" not in exit.output

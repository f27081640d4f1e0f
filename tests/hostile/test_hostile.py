"""The short form of `make hostile`: some of its probes, on a real server each."""

import sys

import pytest

from tests.hostile.__main__ import tried

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]


@pytest.mark.parametrize(
    "probe",
    [
        "pings", "empty-fragments", "compressed", "headers", "header-value", "trailers",
        "requests", "goodbye",
    ],
)  # fmt: skip
def test_serve_bears_it(probe: str) -> None:
    # Enough for uvicorn's own protocols to fail at each of these.
    cost = tried("serve", probe, size=100_000_000, seconds=3)
    # How long others waited says more of the machine than of the server, where tests share it.
    assert cost.is_borne(max_wait=5), cost


@pytest.mark.parametrize("probe", ["pings", "headers", "goodbye"])
def test_so_does_the_command_line_that_the_documents_call_equal(probe: str) -> None:
    cost = tried("uvicorn", probe, size=100_000_000, seconds=3)
    assert cost.is_borne(max_wait=5), cost

"""Which hosts are this machine alone."""

import pytest

from asgi_notify.hosts import is_loopback


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("localhost", True), ("LocalHost.", True), ("a.localhost", True), ("127.0.0.1", True),
     ("::1", True), ("[::1]", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False),
     ("::", False), ("example.com", False), ("notlocalhost", False), ("", False),
     ("::ffff:8.8.8.8", False)],
)  # fmt: skip
def test_which_hosts_are_this_machine(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local

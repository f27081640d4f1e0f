"""Where a server is told to listen: what is refused, in one sentence, before it starts."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from cryptography.hazmat.primitives import serialization

from asgi_notify.cli.listening import check_address, check_certificate, check_socket
from asgi_notify.exceptions import ConfigurationError
from tests.cli.conftest import Run
from tests.http2 import Certificate


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback interface on which somebody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_one_sentence_with_the_way_out(run: Run, taken: int) -> None:
    refused = run("serve", "--port", str(taken))
    assert refused.exit_code == 1
    assert refused.output == (
        f"Error: port {taken} of 127.0.0.1 is taken by another program; end that one, or choose "
        "another port with --port (0 takes a free one)\n"
    )


def test_a_free_port_is_left_free(taken: int) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    for _ in range(2):
        check_address("127.0.0.1", port)
    check_address("127.0.0.1", 0)
    check_address("", 0)
    check_address("localhost", 0)


def test_a_port_that_a_closed_connection_still_holds_is_free() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        connection, _ = listener.accept()
    connection.close()  # the first to close, which waits in TIME_WAIT
    client.close()
    check_address("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
        ("a b", "'a b' is no address to listen on"),
    ],
)
def test_an_address_that_is_not_here_is_named(host: str, sentence: str) -> None:
    with pytest.raises(click.ClickException) as refused:
        check_address(host, 0)
    assert sentence in refused.value.message


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(13, "this user may not listen on port 80"), (5, "nothing can listen on port 80 of")],
)
def test_what_the_system_refuses_is_explained(
    monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
) -> None:
    def bind(self: socket.socket, address: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(click.ClickException) as refused:
        check_address("127.0.0.1", 80)
    assert sentence in refused.value.message


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short path: that of a socket may have some 100 characters."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_socket_that_a_dead_server_left_is_removed_and_a_living_one_is_not(
    folder: Path,
) -> None:
    path = str(folder / "s")
    check_socket(path)
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(click.ClickException, match="a server listens on"):
            check_socket(path)
        assert Path(path).is_socket()
    check_socket(path)
    assert not Path(path).exists()


def test_a_path_that_can_be_no_socket_is_refused(folder: Path) -> None:
    (folder / "file").write_text("mine")
    with pytest.raises(click.ClickException, match="is a file, not a socket"):
        check_socket(str(folder / "file"))
    assert (folder / "file").read_text() == "mine"
    with pytest.raises(click.ClickException, match="there is no directory"):
        check_socket(str(folder / "no" / "s"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"))


def test_files_for_tls_are_read_together_or_as_one(
    certificate: Certificate, tmp_path: Path
) -> None:
    check_certificate(None, None)
    check_certificate(str(certificate.cert), str(certificate.key))
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.key.read_bytes() + certificate.cert.read_bytes())
    check_certificate(str(both), None)


def test_files_that_are_no_certificate_and_key_are_refused(
    certificate: Certificate, tmp_path: Path
) -> None:
    cert, key = str(certificate.cert), str(certificate.key)
    other = tmp_path / "other"
    other.mkdir()
    foreign = Certificate(other).key
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        serialization.load_pem_private_key(certificate.key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    for certfile, keyfile, sentence in [
        (None, key, "--ssl-keyfile needs the certificate"),
        (cert, None, "no certificate and its own key, both in PEM, can be read"),
        (key, cert, "no certificate and its own key"),
        (cert, str(foreign), "no certificate and its own key"),
        (cert, str(locked), "has a passphrase"),
    ]:
        with pytest.raises(ConfigurationError, match=sentence):
            check_certificate(certfile, keyfile)

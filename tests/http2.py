"""HTTP/2 as the tests need it: a server with a certificate of its own, and a client that sees all.

httpx speaks HTTP/2, but declines pushed responses and knows no WebSocket over
it; so this client is hyper-h2 on a TLS socket.
"""

import datetime
import http.client
import ssl
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from socket import create_connection
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.connection import H2Connection
from h2.events import DataReceived, Event

from tests.servers import HOST, Server, is_answered

__all__ = ["Certificate", "Client", "TlsServer"]

WAIT = 10  # seconds until something that is on its way counts as lost


class Certificate:
    """A self-signed certificate for this machine, in two files.

    Args:
        folder: where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "asgi_notify's tests")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(HOST))]), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        self.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def trusted(self) -> ssl.SSLContext:
        """What a client needs to trust it, and it alone."""
        return ssl.create_default_context(cafile=str(self.cert))


class TlsServer(Server):
    """A hypercorn process that speaks TLS, and so HTTP/2.

    Args:
        kind: one of hypercorn's.
        app: ``"module:attribute"``, importable from the project's root.
        certificate: what it shows.
    """

    def __init__(self, kind: str, app: str, certificate: Certificate) -> None:
        files = ("--certfile", str(certificate.cert), "--keyfile", str(certificate.key))
        super().__init__(kind, app, options=files)
        self.https = self.http.replace("http", "https", 1)
        self.certificate = certificate

    def _answers(self) -> bool:
        context = self.certificate.trusted()
        return is_answered(http.client.HTTPSConnection(HOST, self.port, timeout=1, context=context))


class Client:
    """One connection that speaks HTTP/2, and keeps every event that h2 makes of it.

    Args:
        server: the server to talk to.
    """

    def __init__(self, server: TlsServer) -> None:
        self.events: list[Event] = []
        self._authority = f"{HOST}:{server.port}"
        context = server.certificate.trusted()
        context.set_alpn_protocols(["h2"])
        raw = create_connection((HOST, server.port), timeout=WAIT)
        self._socket = context.wrap_socket(raw, server_hostname=HOST)
        self._h2 = H2Connection()

    def __enter__(self) -> Self:
        self._h2.initiate_connection()
        self._flush()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def request(self, method: str, path: str, *headers: tuple[str, str], ends: bool = True) -> int:
        """Send the headers of a request; return the number of its stream."""
        stream = self._h2.get_next_available_stream_id()
        first = [
            (":method", method), (":scheme", "https"), (":authority", self._authority),
            (":path", path),
        ]  # fmt: skip
        # RFC 9113 8.3: those with a colon come first.
        pairs = sorted([*first, *headers], key=lambda pair: not pair[0].startswith(":"))
        self._h2.send_headers(stream, pairs, end_stream=ends)
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """Send data on a stream."""
        self._h2.send_data(stream, data, end_stream=ends)
        self._flush()

    def reset(self, stream: int) -> None:
        """End a stream in its midst."""
        self._h2.reset_stream(stream)
        self._flush()

    def wait_for(self, found: Callable[[Event], bool]) -> Event:
        """The first event of that kind, whether it has come already or comes yet."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if found(event):
                    return event
            seen = len(self.events)
            self._read()

    def data(self, stream: int) -> Iterator[bytes]:
        """The data of a stream, as it comes."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if isinstance(event, DataReceived) and event.stream_id == stream:
                    yield event.data
            seen = len(self.events)
            self._read()

    def _read(self) -> None:
        data = self._socket.recv(65536)
        assert data, f"the server has closed the connection after {self.events}"
        self.events += self._h2.receive_data(data)
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())

"""Who may use a server, and how: login, database, TLS; and what never appears in an error."""

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers.history import History
from asgi_notify.layers.valkey import engine_from_url
from tests.servers import HOST
from tests.valkey_servers import ValkeyServer, program

from .ear import Ear

pytestmark = pytest.mark.anyio

KEEP = History(size=5, ttl=60)
QUICK = "timeout=1.5&probe_interval=0.2"


async def use(url: str) -> None:
    engine, ear = engine_from_url(url), Ear()
    await engine.open(ear)
    try:
        await engine.subscribe(["room"])
        await engine.publish("room", b"1", keep=KEEP)
        await ear.until(lambda: bool(ear.heard))
    finally:
        await engine.close()


@pytest.fixture
def locked(own_server: ValkeyServer) -> ValkeyServer:
    with own_server.admin as admin:
        admin.execute_command(
            "ACL", "SETUSER", "ada", "on", ">ge:h@im", "~asgi_notify:*", "&asgi_notify:*", "+@all"
        )
        admin.execute_command(
            "ACL", "SETUSER", "bob", "on", ">bob", "+@all", "-@dangerous", "~*", "&*"
        )
    return own_server


async def test_a_user_with_a_password_of_any_characters(locked: ValkeyServer) -> None:
    await use(f"valkey://ada:ge%3Ah%40im@{HOST}:{locked.port}")


async def test_a_wrong_password_is_told_and_never_shown(locked: ValkeyServer) -> None:
    with pytest.raises(LayerUnavailable) as caught:
        await use(f"valkey://ada:falsch@{HOST}:{locked.port}/0?{QUICK}")
    assert f"{HOST}:{locked.port}" in str(caught.value)
    assert "falsch" not in str(caught.value)
    assert str(caught.value).endswith("give them in the URL: valkey://user:password@host")


@pytest.mark.parametrize(
    ("scheme", "query", "way_out"),
    [
        ("valkey", "cluster=1&timeout=5", "leave cluster=1 out, if this is one server"),
        ("valkeys", QUICK, "see that a server runs there, with TLS if the URL begins with"),
    ],
)
async def test_what_cannot_be_opened_is_told_with_the_way_out(
    own_server: ValkeyServer, scheme: str, query: str, way_out: str
) -> None:
    with pytest.raises(LayerUnavailable, match=way_out):
        await use(f"{scheme}://{HOST}:{own_server.port}/0?{query}")


async def test_a_prefix_that_the_user_may_not_use_is_told(locked: ValkeyServer) -> None:
    with pytest.raises(LayerUnavailable, match=r"NOPERM|[Pp]ermission"):
        await use(f"valkey://ada:ge%3Ah%40im@{HOST}:{locked.port}/0?prefix=other&{QUICK}")


async def test_a_database_of_its_own(own_server: ValkeyServer) -> None:
    await use(f"redis://{HOST}:{own_server.port}/3")
    with own_server.admin as admin:
        assert "db3" in admin.info("keyspace")
        assert "db0" not in admin.info("keyspace")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with a key and a certificate for this machine that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
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
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False
        )
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return tmp_path


@pytest.fixture
def secured(certificate: Path) -> Iterator[ValkeyServer]:
    options = {
        "tls-cert-file": str(certificate / "cert.pem"),
        "tls-key-file": str(certificate / "key.pem"),
        "tls-ca-cert-file": str(certificate / "cert.pem"),
        "tls-auth-clients": "no",
    }
    server = ValkeyServer(program("redis-server"), **options)
    server.options["tls-port"] = str(server.tls_port)
    with server:
        yield server


async def test_tls_with_a_certificate_of_ones_own(secured: ValkeyServer, certificate: Path) -> None:
    url = f"valkeys://{HOST}:{secured.tls_port}/0?{QUICK}"
    await use(f"{url}&tls_ca={certificate / 'cert.pem'}")
    with pytest.raises(LayerUnavailable, match=f"valkeys://{HOST}:{secured.tls_port}"):
        await use(url)  # nobody whom this machine trusts has signed it

"""Whether a server can listen at the address it is given, found out before it starts.

uvicorn finds out when the application runs already, and then says it in the
middle of several lines about a start and a shutdown.
"""

import errno
import os
import socket
import ssl
from pathlib import Path

import click

from ..exceptions import ConfigurationError

__all__ = ["check_address", "check_certificate", "check_socket"]


def check_address(host: str, port: int) -> None:
    """See that nothing stands in the way of listening on a port; 0 takes any.

    Raises:
        click.ClickException: it is taken, not allowed, or not on this machine.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise click.ClickException(f"{host!r} is no address to listen on: {error}") from error
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as listener:
            # As asyncio sets them: what a closed server leaves behind is no obstacle.
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind(address)
            except OSError as error:
                raise click.ClickException(_explain(error, host, port)) from error


def _explain(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} of {host} is taken by another program; end that one, or choose "
                "another port with --port (0 takes a free one)"
            )
        case errno.EACCES:
            return (
                f"this user may not listen on port {port}; choose one from 1024 up with --port, "
                "and put a proxy in front"
            )
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; 0.0.0.0 stands for all that it has"
        case _:
            return f"nothing can listen on port {port} of {host}: {error.strerror}"


def check_socket(path: str) -> None:
    """See that a server can listen on a Unix socket; remove one that a dead server left.

    Raises:
        click.ClickException: a server listens there, or there is something else.
    """
    file = Path(path)
    if not file.parent.is_dir():
        raise click.ClickException(f"there is no directory {str(file.parent)!r} for the socket")
    if not file.exists():
        return
    if not file.is_socket():
        raise click.ClickException(f"{path!r} is a file, not a socket; name another path")
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except ConnectionRefusedError:
            file.unlink()
        except OSError as error:
            raise click.ClickException(f"{path!r} cannot be used: {error.strerror}") from error
        else:
            raise click.ClickException(
                f"a server listens on {path!r} already; end that one, or name another path"
            )


def check_certificate(certfile: str | None, keyfile: str | None) -> None:
    """See that the files for TLS can be used; without any, there is nothing to see.

    Raises:
        ConfigurationError: they do not fit each other, or are none.
    """
    if certfile is None:
        if keyfile is not None:
            raise ConfigurationError("--ssl-keyfile needs the certificate, too: --ssl-certfile")
        return

    def refuse() -> str:
        raise ConfigurationError(
            f"the key in {keyfile or certfile} has a passphrase, which a server that starts "
            "by itself cannot ask for; write a key without: openssl pkey -in KEY -out NEW"
        )

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, refuse)
    except OSError as error:  # ssl.SSLError is one
        files = certfile if keyfile is None else f"{certfile} and {keyfile}"
        raise ConfigurationError(
            f"no certificate and its own key, both in PEM, can be read from {files}: "
            f"{error.strerror or error}"
        ) from error

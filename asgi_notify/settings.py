"""What the environment decides, read once and checked."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches

from .exceptions import ConfigurationError
from .limits.bounds import PREFIX as LIMIT
from .limits.bounds import Limits

__all__ = ["Settings"]

_PREFIX = "ASGI_NOTIFY_"
HANDLER_THREADS = 40  # anyio's own default for worker threads
MAX_BODY_SIZE = 64 * 1024  # bytes; a notification is a few hundred


@dataclass(frozen=True)
class Settings:
    """The settings of one process.

    Attributes:
        layer: URL of the default channel layer (``ASGI_NOTIFY_LAYER``).
        publish_key: what a publisher has to show (``ASGI_NOTIFY_PUBLISH_KEY``), or None.
        allowed_origins: further origins whose pages may connect and publish
            (``ASGI_NOTIFY_ALLOWED_ORIGINS``, separated by commas).
        allowed_hosts: host names that the default application serves, beside those of
            this machine alone (``ASGI_NOTIFY_ALLOWED_HOSTS``, separated by commas);
            `HostValidator` says which ones it serves where this is empty.
        handler_threads: how many synchronous handlers run at once
            (``ASGI_NOTIFY_HANDLER_THREADS``).
        stepping: whether idle consumers are served without waking their tasks,
            where the event loop allows it (``ASGI_NOTIFY_STEPPING``, 1 or 0).
        gathering: whether what a WebSocket is sent in one turn of the event loop is written
            at once, by a server that can (``ASGI_NOTIFY_GATHERING``, 1 or 0).
        sync_lane: whether synchronous handlers share threads that take one after the
            other, where the event loop allows it (``ASGI_NOTIFY_SYNC_LANE``, 1 or 0).
        direct: whether messages that are only passed on are sent at once, where the server
            allows it (``ASGI_NOTIFY_DIRECT``, 1 or 0).
        gc_tuning: whether ``asgi-notify serve`` has the garbage collector look less often
            (``ASGI_NOTIFY_GC_TUNING``, 1 or 0).
        max_body_size: bytes of a published body (``ASGI_NOTIFY_MAX_BODY_SIZE``).
        trusted_proxies: whose word is taken for who a client is
            (``ASGI_NOTIFY_TRUSTED_PROXIES``, addresses, networks and ``unix``, separated by
            commas): docs/limits.md.
        forwarded_header: where they say it (``ASGI_NOTIFY_FORWARDED_HEADER``),
            ``x-forwarded-for`` or ``forwarded``.
        limits: how much clients may do to the default application
            (``ASGI_NOTIFY_LIMIT_CONNECTIONS`` and so on: docs/limits.md).
        token_keys: secrets of signed tokens, of which the first signs
            (``ASGI_NOTIFY_TOKEN_KEYS``, separated by commas).
        jwt_key: what JSON Web Tokens are verified with, a secret or a public key in PEM
            (``ASGI_NOTIFY_JWT_KEY``, where a backslash and an n is a line break, too); or None.
        jwt_jwks: a file or an https URL that has their keys (``ASGI_NOTIFY_JWT_JWKS``), or None.
        jwt_audience: of which they have to name one (``ASGI_NOTIFY_JWT_AUDIENCE``, commas).
        jwt_issuer: of which they have to name one (``ASGI_NOTIFY_JWT_ISSUER``, commas).
        jwt_algorithms: where these are others than the common one of a key
            (``ASGI_NOTIFY_JWT_ALGORITHMS``, commas).
        auth_cookie: the name of a cookie that holds a token (``ASGI_NOTIFY_AUTH_COOKIE``).
        ticket_keys: secrets that tickets are signed with, of which the first signs; those of
            tokens, where there are none (``ASGI_NOTIFY_TICKET_KEYS``, separated by commas).
    """

    layer: str = "memory://?history=user_*"  # what a browser's reconnect may miss
    publish_key: str | None = field(default=None, repr=False)  # not for a log
    allowed_origins: tuple[str, ...] = ()
    handler_threads: int = HANDLER_THREADS
    max_body_size: int = MAX_BODY_SIZE
    stepping: bool = True
    sync_lane: bool = True
    allowed_hosts: tuple[str, ...] = ()
    gathering: bool = True
    direct: bool = True
    gc_tuning: bool = True
    limits: Limits = field(default_factory=Limits)
    trusted_proxies: tuple[str, ...] = ()
    forwarded_header: str = "x-forwarded-for"
    token_keys: tuple[str, ...] = field(default=(), repr=False)  # not for a log
    jwt_key: str | None = field(default=None, repr=False)
    jwt_jwks: str | None = None
    jwt_audience: tuple[str, ...] = ()
    jwt_issuer: tuple[str, ...] = ()
    jwt_algorithms: tuple[str, ...] = ()
    auth_cookie: str | None = None
    ticket_keys: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables named above; an empty one counts as not set.

        Raises:
            ConfigurationError: a number is none, or is below 1; a switch is neither 1 nor 0;
                a variable is named like that of a setting or a limit, and is none's; one for
                keys has none in it.
        """
        _refuse_misspelled(environ)
        return cls(
            layer=environ.get("ASGI_NOTIFY_LAYER") or cls.layer,
            publish_key=environ.get("ASGI_NOTIFY_PUBLISH_KEY") or None,
            allowed_origins=_list(environ, "ASGI_NOTIFY_ALLOWED_ORIGINS"),
            allowed_hosts=_list(environ, "ASGI_NOTIFY_ALLOWED_HOSTS"),
            handler_threads=_count(environ, "ASGI_NOTIFY_HANDLER_THREADS", HANDLER_THREADS),
            max_body_size=_count(environ, "ASGI_NOTIFY_MAX_BODY_SIZE", MAX_BODY_SIZE),
            stepping=_switch(environ, "ASGI_NOTIFY_STEPPING", cls.stepping),
            gathering=_switch(environ, "ASGI_NOTIFY_GATHERING", cls.gathering),
            sync_lane=_switch(environ, "ASGI_NOTIFY_SYNC_LANE", cls.sync_lane),
            direct=_switch(environ, "ASGI_NOTIFY_DIRECT", cls.direct),
            gc_tuning=_switch(environ, "ASGI_NOTIFY_GC_TUNING", cls.gc_tuning),
            limits=Limits.from_environ(environ),
            trusted_proxies=_list(environ, "ASGI_NOTIFY_TRUSTED_PROXIES"),
            forwarded_header=environ.get("ASGI_NOTIFY_FORWARDED_HEADER") or cls.forwarded_header,
            token_keys=_keys(environ, "ASGI_NOTIFY_TOKEN_KEYS"),
            jwt_key=environ.get("ASGI_NOTIFY_JWT_KEY", "").replace("\\n", "\n") or None,
            jwt_jwks=environ.get("ASGI_NOTIFY_JWT_JWKS") or None,
            jwt_audience=_list(environ, "ASGI_NOTIFY_JWT_AUDIENCE"),
            jwt_issuer=_list(environ, "ASGI_NOTIFY_JWT_ISSUER"),
            jwt_algorithms=_list(environ, "ASGI_NOTIFY_JWT_ALGORITHMS"),
            auth_cookie=environ.get("ASGI_NOTIFY_AUTH_COOKIE") or None,
            ticket_keys=_keys(environ, "ASGI_NOTIFY_TICKET_KEYS"),
        )

    @classmethod
    def of_process(cls) -> "Settings":
        """What the environment of this process says now: the one place that reads it.

        Called by what is made once for a process or an event loop, so that the
        variables hold for applications that are embedded in others, too.

        Raises:
            ConfigurationError: as of `from_environ`.
        """
        return cls.from_environ(os.environ)


_NAMES = frozenset(each.name.upper() for each in fields(Settings)) - {"LIMITS"}
# Those of the command line, which `listen` and `send` read, and `serve` hands to its workers.
_ELSEWHERE = {"URL", "TOKEN", "SERVED_APP", "SERVED_CHANNELS"}
_KNOWN = sorted({*_NAMES, *_ELSEWHERE})
_FAMILIES = {name.partition("_")[0] for name in _NAMES if "_" in name}
# What Kubernetes sets in each container for a service called asgi-notify, or asgi-notify-auth.
_KUBERNETES = re.compile(r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_.+)?)")


def _refuse_misspelled(environ: Mapping[str, str]) -> None:
    """Refuse a variable that was most likely meant to be a setting.

    Where ``ASGI_NOTIFY_TOKEN_KEY`` was passed over, for want of its last letter, everybody
    could watch everything, and nothing would say so.
    """
    for variable in sorted(environ):
        name = variable.removeprefix(_PREFIX)
        if name in (variable, *_KNOWN) or variable.startswith(LIMIT) or _KUBERNETES.fullmatch(name):
            continue
        close = get_close_matches(name, _KNOWN, n=1, cutoff=0.8)
        family = name.partition("_")[0]
        if variable.startswith(LIMIT.removesuffix("_")):
            raise ConfigurationError(f"{variable} is no setting; those of limits begin {LIMIT}")
        if not close and family not in _FAMILIES:
            continue  # somebody's own, such as one that the URL of a layer names
        likely = close or [known for known in _KNOWN if known.startswith(f"{family}_")]
        names = " or ".join(_PREFIX + each for each in likely)
        raise ConfigurationError(f"{variable} is no setting; did you mean {names}?")


def _keys(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    keys = _list(environ, name)
    if environ.get(name) and not keys:
        raise ConfigurationError(f"{name} is set, and there is no key in it")
    return keys


def _list(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    parts = environ.get(name, "").split(",")
    return tuple(part.strip() for part in parts if part.strip())


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ConfigurationError(f"{name} is a whole number of at least 1, not {text!r}")


def _switch(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name) or str(int(default))
    if text in ("0", "1"):
        return text == "1"
    raise ConfigurationError(f"{name} is 1 (on) or 0 (off), not {text!r}")

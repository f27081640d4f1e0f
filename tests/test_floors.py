"""Which module may import which, read from the source and checked against one table.

The package is a house: words on the ground floor, doors at the top, and an
import goes down. A new module needs one line in `FLOORS`.
"""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

PACKAGE = Path(__file__).resolve().parent.parent / "asgi_notify"
MAX_LINES = 300  # where to ask whether a file holds two ideas

# These hold one idea, which a cut would only spread over two files that know each other's all.
LONGER: Mapping[str, int] = {
    "cli.serve": 310,  # a third of it are options
    "uvicorn": 360,  # the only one that knows uvicorn's insides, for HTTP and for WebSockets
    "gathering": 360,  # the same for any protocol, and for messages of a WebSocket
    "client.client": 335,  # a third of it says what subscribing and publishing promise
    "consumers.base": 350,
    "consumers.connection": 595,
    "layers.base": 520,  # one contract, most of it sentences
    "layers.history": 330,  # of all groups, and the ring that one of them is
    "consumers.notification": 385,  # what one client of the protocol may ask for
    "consumers.job": 340,  # the two sides of a handler, in the loop and in its thread
    "consumers.lane": 390,  # a quarter of it says which thread may change what
    "consumers.stepping": 390,
    "consumers.subscriptions": 325,  # a third of it says to subclasses what they may override
    "layers.hub": 340,
    "layers.link": 450,  # one group's way between an engine and its members, a quarter of it words
    "layers.mailbox": 590,
    "layers.shared": 590,  # one method for each of the contract's
    "layers.sharded": 310,  # one method for each of the contract's
    "layers.valkey": 320,  # the same
    "layers.valkey_link": 320,  # one connection for commands, one for subscriptions
    "sync": 400,
}
WAITING = 2  # the first floor whose code may wait

# A decimal is a step inside a floor; "folder.*" stands for every file of that folder.
FLOORS: Mapping[str, float] = {
    # words
    "types": 0,
    "exceptions": 0,
    # pure: no await
    "asgi": 1,
    "django_support": 1,
    "codec": 1.1,
    "auth.identity": 1,
    "auth.credentials": 1.1,
    "auth.signed": 1.2,
    "auth.jwt_keys": 1,
    "auth.jwks": 2.1,
    "auth.jwt": 2.2,
    "auth.revocations": 2.3,
    "auth.session": 2,
    "auth.tickets": 2.4,
    "auth.verifying": 2.1,
    "auth.configured": 2.5,
    "auth.django": 1.1,
    "auth.rules": 4.01,
    "auth": 4.02,
    "consumers.protocol": 1,
    "consumers.state": 1.1,
    "events.consumer": 1,
    "events.filters": 1,
    "hosts": 1.1,
    "limits.bounds": 0.5,
    "limits": 0.6,
    "limits.counting": 0.5,
    "limits.body": 2.1,
    "limits.allowance": 4.07,
    "peers": 1,
    "jsontext": 1.15,
    "legible": 0.5,
    "loading": 1,
    "names": 1,
    "positions": 1,
    "protocol.frames": 1.2,
    "protocol.requests": 1.3,
    "protocol": 1.4,
    "routing.base": 1,
    "routing.patterns": 1,
    "settings": 1,
    "spelling": 1.5,
    "sse": 1,
    # waiting: anyio enters
    "loop_calls": 2,
    "sync": 2.05,
    "layers.history": 2.1,
    "layers.idempotency": 2.1,
    "layers.marks": 2.1,
    "layers.alarm": 2,
    "layers.entries": 1.2,
    "layers.mailbox": 2,
    "layers.options": 2,
    "layers.overflow": 1,
    "layers.presence": 2,
    "layers.processes": 1,
    "layers.results": 1.2,
    "layers.stream": 1.2,
    "layers.base": 2.2,
    "layers.resuming": 1.3,
    "layers.hub": 2.2,
    "layers.engine": 2.2,
    "layers.frame": 1.1,
    "layers.keys": 1.1,
    "layers.pace": 2.3,
    "layers.packing": 1.2,
    "layers.sealing": 1.1,
    "layers.sharded": 2.3,
    "layers.tasks": 2,
    "layers.url_parts": 1,
    "layers.urls": 2.2,
    "layers.valkey": 3,
    "layers.valkey_layer": 3.1,
    "layers.valkey_address": 1.1,
    "layers.valkey_link": 2.2,
    "layers.valkey_marks": 1.2,
    "layers.valkey_presence": 2.3,
    "layers.valkey_queues": 2.5,
    "layers.valkey_scripts": 1.1,
    "layers.valkey_subscriptions": 2.3,
    "layers.valkey_uplink": 2.4,
    "layers.presence_events": 2.3,
    "layers.registry": 2.3,
    "lifespan": 2.4,
    "web": 2.1,
    "routing.entries": 2,
    "events.routes": 2,
    "bounded": 2,
    "gathering": 2.05,
    "half_open": 2,
    "streaming": 2.06,
    "testing.*": 2,
    "uvicorn": 2.1,
    # engines, routers
    "client.backoff": 1,
    "client.address": 1,
    "client.items": 1.1,
    "client.errors": 1.1,
    "client.publications": 2.1,
    "client.recovery": 1.2,
    "client.wire": 2.1,
    "client.subscription": 2.1,
    "client.credentials": 2.1,
    "client.conversation": 2.2,
    "client.client": 2.3,
    "client.publisher": 1.2,
    "client": 2.4,
    "layers.following": 2.1,
    "layers.joining": 2.3,
    "layers.link": 2.4,
    "layers.deliveries": 2.4,
    "layers.delivery": 2,
    "layers.leases": 2.4,
    "layers.local": 2.4,
    "layers.patience": 2.45,
    "layers.shared": 2.5,
    "layers.memory": 3,
    "layers": 3.2,
    "routing.routers": 3,
    "routing": 3.1,
    # applications
    "consumers.handlers": 1.1,
    "consumers.passing": 1.6,
    "users": 4,
    "consumers.watchdog": 4,
    "consumers.beside": 4,
    "consumers.stepping": 4,
    "consumers.lane": 4,
    "consumers.call": 4,
    "consumers.job": 4.05,
    "consumers.connection": 4.05,
    "consumers.direct": 4,
    "consumers.expiries": 4,
    "consumers.rechecks": 4,
    "consumers.login": 4.06,
    "consumers.observing": 4.06,
    "consumers.peer": 4.06,
    "consumers.base": 4.1,
    "consumers.threads": 4.15,
    "consumers.http": 4.2,
    "consumers.sse": 4.3,
    "consumers.websocket": 4.2,
    "middleware.*": 4,
    "middleware.authentication": 4.05,
    "middleware.cors": 4.01,
    "middleware.observed": 4.08,
    "middleware.limits": 4.08,
    "middleware": 4.1,
    # product
    "consumers.rooms": 4.9,
    "consumers.subscriptions": 5,
    "consumers.client_publishing": 5.05,
    "consumers.notification": 5.1,
    "consumers.notification_http": 5.1,
    "consumers": 5.2,
    "demo.*": 5,
    "publishing": 5.1,
    "ticketing": 5.1,
    "django_channels": 4,
    "worker": 5,
    "with_worker": 5.1,
    "events.message": 5,
    "events.router": 5.1,
    "events": 5.2,
    # doors
    "app": 6,
    "cli.*": 6,
    "__init__": 6.1,
    "__main__": 6.1,
}

# What a module may import from outside, besides the standard library and anyio.
EXTRAS: Mapping[str, Collection[str]] = {
    "auth.django": {"django"},
    "auth.jwt_keys": {"cryptography", "jwt"},
    "cli.*": {"click"},
    "cli.load": {"click", "websockets"},
    "cli.logs": {"uvicorn"},
    "client.wire": {"websockets"},
    "cli.serve": {"click", "uvicorn"},
    "jsontext": {"msgspec"},
    "layers.packing": {"msgspec"},
    "layers.sealing": {"cryptography"},
    "layers.tasks": {"trio"},  # where a task belongs to it
    "layers.valkey_link": {"glide"},
    "django_channels": {"asgiref", "channels"},
    "sync": {"trio"},
    "testing.background": {"trio"},  # where a test runs on it
    "gathering": {"websockets"},
    "uvicorn": {"uvicorn", "websockets"},
}

ROOMS = {"cli", "demo", "testing"}  # several files that are one room, and import each other

Sources = Mapping[str, str]  # the path inside the package -> the text


def module_of(path: str) -> str:
    """``layers.base`` for ``layers/base.py``; ``layers`` for its ``__init__.py``."""
    name = path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


def row(table: Mapping[str, T], module: str) -> T | None:
    """What a table says of a module by its name, else by its folder."""
    folder, _, _ = module.partition(".")
    return table.get(module, table.get(f"{folder}.*"))


def imports(path: str, source: str) -> Iterator[str]:
    """The full dotted name of everything that a module imports, wherever in the module."""
    package = ["asgi_notify", *path.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            origin = [*start, *([node.module] if node.module else [])]
            yield from (".".join([*origin, alias.name]) for alias in node.names)


def target(name: str, modules: Collection[str]) -> str | None:
    """The module of the package that an import reads, or None for one from outside."""
    if name.split(".")[0] != "asgi_notify":
        return None
    inside = name.removeprefix("asgi_notify").removeprefix(".")
    while inside and inside not in modules:
        inside, _, _ = inside.rpartition(".")
    return inside or "__init__"


def may_import(module: str, other: str) -> bool:
    """Down a floor, inside one room, or to the ``base`` of the module's own folder."""
    folder = module.partition(".")[0]
    if folder in ROOMS and other.partition(".")[0] == folder:
        return True
    mine, its = row(FLOORS, module), row(FLOORS, other)
    assert mine is not None
    assert its is not None
    return its < mine or (its == mine and other == f"{folder}.base")


def problems(sources: Sources) -> Iterator[str]:
    """A sentence for every broken rule."""
    modules = {module_of(path): path for path in sources}
    unknown = [path for module, path in modules.items() if row(FLOORS, module) is None]
    if unknown:
        for path in unknown:
            yield f"asgi_notify/{path} has no floor: add it to FLOORS in tests/test_floors.py"
        return
    for module, path in modules.items():
        yield from _wrong_imports(module, path, sources[path], modules)
        yield from _wrong_shape(module, path, sources[path])


def _wrong_imports(
    module: str, path: str, source: str, modules: Mapping[str, str]
) -> Iterator[str]:
    floor = row(FLOORS, module)
    assert floor is not None
    known = {"anyio"} if floor >= WAITING else set()
    known |= sys.stdlib_module_names | set(row(EXTRAS, module) or ())
    for name in imports(path, source):
        other = target(name, modules)
        if other is None:
            if name.split(".")[0] not in known:
                yield f"asgi_notify/{path} (floor {floor}) imports {name}, which it may not"
        elif not may_import(module, other):
            yield (
                f"asgi_notify/{path} (floor {floor}) imports asgi_notify/{modules[other]} "
                f"(floor {row(FLOORS, other)}): an import goes down a floor, "
                "or to the base of its own folder"
            )


def _wrong_shape(module: str, path: str, source: str) -> Iterator[str]:
    lines = source.count("\n")
    limit = LONGER.get(module, MAX_LINES)
    if lines > limit:
        yield (
            f"asgi_notify/{path} has {lines} lines, over its {limit}: does it hold two ideas? "
            "Where it is one, name it in LONGER in tests/test_floors.py"
        )
    floor = row(FLOORS, module)
    if floor is not None and floor < WAITING:
        waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
        if any(isinstance(node, waits) for node in ast.walk(ast.parse(source))):
            yield f"asgi_notify/{path} (floor {floor}) waits; floors below {WAITING} are pure"


def the_package() -> Sources:
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text()
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_every_import_goes_down_a_floor() -> None:
    sources = the_package()
    assert "types.py" in sources  # or nothing was looked at
    found = list(problems(sources))
    assert not found, "\n".join(found)


def test_floors_name_no_module_that_is_gone() -> None:
    modules = {module_of(path) for path in the_package()}
    folders = {f"{module.partition('.')[0]}.*" for module in modules}
    gone = (FLOORS.keys() | EXTRAS.keys()) - modules - folders
    assert not gone, f"take {', '.join(sorted(gone))} out of the tables in tests/test_floors.py"


HOUSE = {"types.py": "", "names.py": "", "layers/base.py": "", "layers/memory.py": ""}


@pytest.mark.parametrize(
    ("path", "source", "sentence"),
    [
        ("types.py", "from .names import handler_name", "asgi_notify/names.py (floor 1)"),
        ("types.py", "from . import names", "asgi_notify/names.py (floor 1)"),
        ("types.py", "import asgi_notify.names", "asgi_notify/names.py (floor 1)"),
        ("layers/base.py", "from .memory import X", "asgi_notify/layers/memory.py (floor 3)"),
        ("layers/base.py", "def f():\n    from . import memory", "layers/memory.py (floor 3)"),
        ("consumers/http.py", "from .websocket import X", "consumers/websocket.py (floor 4.2)"),
        ("consumers/http.py", "from .. import X", "asgi_notify/__init__.py (floor 6.1)"),
        ("types.py", "import anyio", "imports anyio"),
        ("layers/base.py", "from redis import asyncio", "imports redis.asyncio"),
        ("cli/routes.py", "import uvicorn", "imports uvicorn"),
        ("types.py", "async def f(): ...", "are pure"),
        ("types.py", "\n" * 301, "has 301 lines"),
        ("utils.py", "", "asgi_notify/utils.py has no floor"),
        ("layers/utils.py", "", "asgi_notify/layers/utils.py has no floor"),
    ],
)
def test_a_broken_rule_is_named_with_its_module(path: str, source: str, sentence: str) -> None:
    house = {**HOUSE, "consumers/websocket.py": "", "__init__.py": "", path: source}
    (problem,) = problems(house)
    assert problem.startswith(f"asgi_notify/{path} ")
    assert sentence in problem


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("names.py", "from .types import Message"),
        ("layers/memory.py", "import anyio\nfrom .base import X\nfrom ..types import Y"),
        ("consumers/http.py", "from .base import X"),
        ("cli/serve.py", "import json, click, uvicorn\nfrom . import main"),
        ("testing/http.py", "from .application import X"),
        ("__init__.py", "from .layers.memory import X"),
    ],
)
def test_what_the_rules_allow_is_no_problem(path: str, source: str) -> None:
    rooms = dict.fromkeys(["consumers/base.py", "cli/__init__.py", "testing/application.py"], "")
    assert list(problems({**HOUSE, **rooms, path: source})) == []

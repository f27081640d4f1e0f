"""A revocation that a broken network to a real server has swallowed is learned afterwards."""

import time
from functools import partial

import anyio
import pytest

from asgi_notify import AsyncWebsocketConsumer
from asgi_notify.auth import AuthSession, Identity, revoke_user
from asgi_notify.exceptions import Unauthorized
from asgi_notify.layers import layer_from_url
from tests.chaos.proxy import Address, Proxy
from tests.consumers.harness import CONNECT, Wire, left
from tests.servers import HOST
from tests.valkey_servers import ValkeyServer

from .ear import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OPTIONS = "timeout=2&probe_interval=0.2"


async def refuse(shown: str) -> Identity:
    raise Unauthorized("nobody shows one here")


@pytest.mark.parametrize("kind", ["reset", "half-open"])
async def test_whom_a_process_could_not_be_told_of_ends_when_it_is_back(
    own_server: ValkeyServer, kind: str
) -> None:
    proxy = Proxy(Address(own_server.port))
    async with anyio.create_task_group() as tasks:
        await tasks.start(proxy.serve)
        async with (
            layer_from_url(f"{own_server.url}?{OPTIONS}") as one,
            layer_from_url(f"valkey://{HOST}:{proxy.port}/0?{OPTIONS}") as two,
        ):
            app = AsyncWebsocketConsumer.as_asgi(channel_layer=two)
            wires = {user: Wire(CONNECT, path="/") for user in ("ann", "bob")}
            for user, wire in wires.items():
                session = AuthSession(refuse, Identity(user, issued_at=time.time() - 10))
                wire.scope = dict(session.put_in(wire.scope))
                tasks.start_soon(wire.run, app)
            await until(lambda: all(wire.sent for wire in wires.values()))
            async with anyio.create_task_group() as failing:
                failing.start_soon(partial(proxy.suffer, kind))
                await revoke_user(one, "ann", seconds=60)
            await until(lambda: wires["ann"].close is not None)
            assert wires["ann"].close is not None
            assert wires["ann"].close["code"] == 4401
            assert wires["bob"].close is None
            wires["bob"].tell(left())
        tasks.cancel_scope.cancel()

"""What a layer on an engine promises when there are several processes, and when the way between
them is bad: two layers on one double of an engine stand for two processes."""

import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify.consumers import AsyncWebsocketConsumer
from asgi_notify.exceptions import ChannelFull, InvalidMessage, LayerUnavailable
from asgi_notify.layers import History, Joined, Mailbox, Sent
from asgi_notify.layers.engine import Read, Receiver
from asgi_notify.layers.sharded import ShardedEngine, rendezvous
from asgi_notify.layers.shared import EngineChannelLayer
from asgi_notify.positions import Position
from asgi_notify.testing import WebsocketCommunicator
from asgi_notify.types import Message

from .double import DoubleEngine, Place
from .tools import Clock, number, numbers, publish, read, waiting

pytestmark = pytest.mark.anyio

HISTORY = {"room*": History(size=50, ttl=60)}


@pytest.fixture
def place(clock: Clock) -> Place:
    return Place(clock)


class Processes:
    """Layers that share a place, opened as they are made."""

    def __init__(self, place: Place, stack: AsyncExitStack, clock: Clock) -> None:
        self.place = place
        self._stack = stack
        self._clock = clock

    async def start(self, **options: object) -> EngineChannelLayer:
        options = {"clock": self._clock, "history": HISTORY, "presence_lease": 1e9, **options}
        make: Callable[..., EngineChannelLayer] = EngineChannelLayer
        layer = make(lambda: DoubleEngine(self.place), **options)
        return await self._stack.enter_async_context(layer)

    def engine_of(self, layer: EngineChannelLayer) -> DoubleEngine:
        assert layer._link is not None
        engine = layer._link.engine
        assert isinstance(engine, DoubleEngine)
        return engine


@pytest.fixture
async def processes(anyio_backend: str, place: Place, clock: Clock) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        yield Processes(place, stack, clock)


async def join(layer: EngineChannelLayer, *groups: str, tell_gaps: bool = False) -> Mailbox:
    mailbox = await layer.attach(tell_gaps=tell_gaps)
    for group in groups:
        await layer.group_add(group, mailbox.channel)
    return mailbox


async def take(mailbox: Mailbox, count: int) -> list[int]:
    with anyio.fail_after(20):
        return numbers([await read(mailbox) for _ in range(count)])


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not is_so():
            await checkpoint()


# Groups.


async def test_a_message_reaches_the_members_of_every_process(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    mailboxes = [await join(layer, "room") for layer in (first, first, second)]
    sent = await first.group_send("room", number(1))
    assert [await take(mailbox, 1) for mailbox in mailboxes] == [[1], [1], [1]]
    assert sent.position is not None
    assert sent.position.offset == 1
    for mailbox in mailboxes[:2]:
        first.detach(mailbox)
    second.detach(mailboxes[2])


async def test_a_send_says_how_many_processes_follow_the_group(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    assert await first.group_send("plain", number(1)) == Sent(0, 0)
    mailboxes = [await join(layer, "plain") for layer in (first, first, second)]
    assert await first.group_send("plain", number(1)) == Sent(2, 0)
    for mailbox in mailboxes[:2]:
        first.detach(mailbox)
    second.detach(mailboxes[2])


async def test_a_process_follows_the_groups_of_its_members_alone(processes: Processes) -> None:
    first, second = await processes.start(release_delay=0.01), await processes.start()
    mailbox = await join(first, "room", "room.2")
    groups = processes.engine_of(first).topics - {"room", "room.2"}
    assert len(groups) == 1, "its own topic"
    assert len(processes.engine_of(second).topics) == 1
    first.detach(mailbox)
    await until(lambda: processes.engine_of(first).topics == groups)
    assert first.statistics()["followed"] == 0


async def test_a_group_that_is_left_and_joined_again_misses_nothing(processes: Processes) -> None:
    layer = await processes.start(release_delay=0.001)
    for n in range(1, 30):
        mailbox = await join(layer, "room")
        await layer.group_send("room", number(n))
        assert await take(mailbox, 1) == [n]
        layer.detach(mailbox)
        await anyio.sleep(0.0005 * (n % 5))


async def test_one_publishers_messages_arrive_in_order_however_late(processes: Processes) -> None:
    numbers_of = random.Random(1)
    processes.place.delay = lambda: numbers_of.random() / 100
    first, second = await processes.start(), await processes.start()
    mailbox = await join(second, "room", "plain")
    for n in range(20):
        await first.group_send("room" if n % 2 else "plain", number(n))
    assert await take(mailbox, 20) == list(range(20))
    second.detach(mailbox)


async def test_a_burst_reaches_small_mailboxes_whole(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start(capacity=5)
    mailbox = await join(second, "room", "plain")
    got: list[int] = []

    async def reader() -> None:
        while len(got) < 500:
            got.append((await read(mailbox))["n"])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            for n in range(500):
                await first.group_send("plain", number(n))
    assert got == list(range(500))
    second.detach(mailbox)


# What is lost on the way.


async def test_what_was_lost_is_read_from_the_history(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    mailbox = await join(second, "room", tell_gaps=True)
    lost = iter([False, True, True, False])
    processes.place.lose = lambda topic: topic == "room" and next(lost)
    await publish(first, "room", 1, 2, 3, 4)
    assert await take(mailbox, 4) == [1, 2, 3, 4]
    assert second.statistics()["gaps"] == 0
    second.detach(mailbox)


async def test_a_lost_last_message_is_found_when_the_group_is_quiet(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start(check_interval=0.02)
    mailbox = await join(second, "room")
    processes.place.lose = lambda topic: True
    await publish(first, "room", 1)
    processes.place.lose = lambda topic: False
    assert await take(mailbox, 1) == [1]
    second.detach(mailbox)


async def test_what_no_history_holds_any_more_is_told_in_its_place(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    mailbox = await join(second, "room", tell_gaps=True)
    deaf = await join(second, "room")
    await publish(first, "room", 0)
    processes.place.lose = lambda topic: True
    await publish(first, "room", *range(1, 61))
    processes.place.lose = lambda topic: False
    await publish(first, "room", 61)
    assert await take(mailbox, 1) == [0]
    with anyio.fail_after(20):
        gap = await read(mailbox)
    assert dict(gap) == {"type": "group.gap", "group": "room", "reason": "unrecovered", "lost": 11}
    assert await take(mailbox, 50) == list(range(12, 62))
    assert await take(deaf, 51) == [0, *range(12, 62)]
    assert second.statistics()["dropped"] == {"unrecovered": 22}, "for each of two mailboxes"
    for one in (mailbox, deaf):
        second.detach(one)


async def test_a_history_that_was_wiped_is_told_and_goes_on(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    mailbox = await join(second, "room", tell_gaps=True)
    await publish(first, "room", 1, 2)
    assert await take(mailbox, 2) == [1, 2]
    processes.place.clear()
    await publish(first, "room", 3)
    with anyio.fail_after(20):
        gap = await read(mailbox)
    assert (gap["type"], gap["lost"]) == ("group.gap", None)
    assert await take(mailbox, 1) == [3]
    second.detach(mailbox)


async def test_an_engine_that_fails_unforeseen_makes_no_process_deaf(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await processes.start(), await processes.start(check_interval=0.05)
    failing = {"subscribe", "read"}

    def fail_once(name: str) -> None:
        engine = processes.engine_of(second)
        whole = getattr(engine, name)

        async def fail(*args: Any, **kwargs: Any) -> Any:
            if name in failing:
                failing.discard(name)
                raise RuntimeError(f"nobody expects a {name} to fail so")
            return await whole(*args, **kwargs)

        monkeypatch.setattr(engine, name, fail)

    fail_once("subscribe")
    fail_once("read")
    mailbox = await second.attach()
    with pytest.raises(LayerUnavailable):
        await second.group_add("room", mailbox.channel)
    await second.group_add("room", mailbox.channel)
    await publish(first, "room", 1)
    processes.place.lose = lambda topic: topic == "room"
    await publish(first, "room", 2)
    processes.place.lose = lambda topic: False
    await publish(first, "room", 3)
    with anyio.fail_after(10):
        assert await take(mailbox, 3) == [1, 2, 3]
    assert failing == set()
    assert [each.msg for each in caplog.records if each.exc_info] == [
        "a channel layer could not subscribe to its groups",
        "a channel layer could not read what its groups have missed",
    ]
    second.detach(mailbox)


# Joining while the group goes on.


@pytest.mark.parametrize("seed", range(8))
async def test_who_joins_while_messages_are_on_their_way_has_no_hole_and_no_repeat(
    processes: Processes, seed: int
) -> None:
    chance = random.Random(seed)
    processes.place.delay = lambda: chance.choice([0.0, 0.0, 0.003])
    processes.place.lose = lambda topic: topic == "room" and chance.random() < 0.2
    first = await processes.start()
    second = await processes.start(check_interval=0.02, release_delay=0.01)
    keeper = await join(second, "room") if seed % 2 else None
    positions: list[Position] = []
    got: dict[int, list[int]] = {}

    async def publisher() -> None:
        for n in range(1, 41):
            positions.extend(await publish(first, "room", n))
            await anyio.sleep(chance.choice([0, 0.001]))

    async def client(which: int) -> None:
        await until(lambda: len(positions) > which * 4)
        since = chance.choice(positions[-10:])
        got[which] = list(range(1, since.offset + 1))
        mailbox = await second.attach()
        joined = await second.group_add("room", mailbox.channel, since=since)
        assert joined == Joined(since, True, joined.replayed)
        while len(got[which]) < 40:
            got[which].append((await read(mailbox))["n"])
        second.detach(mailbox)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publisher)
            for which in range(8):
                tasks.start_soon(client, which)
    assert list(got.values()) == [list(range(1, 41))] * 8
    if keeper is not None:
        assert await take(keeper, 40) == list(range(1, 41))
        second.detach(keeper)


async def test_two_that_join_at_once_miss_nothing_whoever_has_read_the_history_first(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = await processes.start()
    member = await join(layer, "room")
    [since] = await publish(layer, "room", 1)
    assert await take(member, 1) == [1]
    engine = processes.engine_of(layer)
    read_now, may_answer = engine.read, [anyio.Event(), anyio.Event()]
    answers = iter(may_answer)

    async def read_slowly(*args: Any) -> Read:
        found, answer = await read_now(*args), next(answers, None)
        if answer is not None:
            await answer.wait()
        return found

    monkeypatch.setattr(engine, "read", read_slowly)
    slow, fast = await layer.attach(), await layer.attach()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for mailbox in (slow, fast):
                tasks.start_soon(partial(layer.group_add, "room", mailbox.channel, since=since))
                await anyio.wait_all_tasks_blocked()
            may_answer[1].set()
            await until(lambda: layer.hub.has_member("room", fast.channel))
            await publish(layer, "room", 2)
            assert await take(member, 1) == [2]
            may_answer[0].set()
    await publish(layer, "room", 3)
    assert [await take(mailbox, 2) for mailbox in (slow, fast)] == [[2, 3], [2, 3]]
    for mailbox in (member, slow, fast):
        layer.detach(mailbox)


async def test_who_comes_from_a_process_that_was_ahead_gets_nothing_twice(
    processes: Processes,
) -> None:
    first, second = await processes.start(), await processes.start()
    keeper = await join(second, "room")
    processes.place.delay = lambda: 0.05
    last = (await publish(first, "room", 1, 2, 3))[-1]
    mailbox = await second.attach()
    assert await second.group_add("room", mailbox.channel, since=last) == Joined(last, True, 0)
    await publish(first, "room", 4)
    assert await take(keeper, 4) == [1, 2, 3, 4]
    assert await take(mailbox, 1) == [4]
    assert waiting(mailbox) == []
    for one in (keeper, mailbox):
        second.detach(one)


async def test_a_member_whose_process_was_behind_gets_all_behind_the_position_it_is_answered(
    processes: Processes,
) -> None:
    first, second = await processes.start(), await processes.start()
    member = await join(second, "room")
    assert await take(member, 0) == []
    processes.place.delay = lambda: 0.05
    *_, last = await publish(first, "room", 1, 2, 3)
    # While the process catches up, all three come to wait for the member.
    joined = await second.group_add("room", member.channel, since=last)
    assert joined == Joined(last._replace(offset=0), True, 3)
    await publish(first, "room", 4)
    assert await take(member, 4) == [1, 2, 3, 4]
    second.detach(member)


# The engine away.


async def test_while_the_engine_is_away_consumers_stay_and_sends_fail_at_once(
    processes: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await processes.start(), await processes.start(publish_timeout=0)
    mailbox = await join(second, "room")
    assert second.state is not None
    assert second.state.is_up
    processes.engine_of(second).cut()
    assert second.state is not None
    assert (second.state.is_up, second.state.reason) == (False, "somebody has cut the cable")
    with pytest.raises(LayerUnavailable, match="try again in a moment"):
        await second.group_send("room", number(0))
    with pytest.raises(LayerUnavailable):
        await join(second, "room.2")
    await publish(first, "room", 1, 2)
    assert waiting(mailbox) == []
    assert mailbox.error is None
    processes.engine_of(second).mend()
    assert await take(mailbox, 2) == [1, 2]
    await publish(first, "room", 3)
    assert await take(mailbox, 1) == [3]
    lines: list[Any] = [each for each in caplog.records if "channel layer" in each.msg]
    assert len(lines) == 2, "one for each change"
    assert lines[0].reason == "somebody has cut the cable"
    second.detach(mailbox)
    for left in second.hub.attached:
        second.detach(left)


@pytest.mark.parametrize("end", ["away", "cancelled"])
async def test_who_could_not_be_made_present_has_not_joined(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    layer = await processes.start()
    mailbox = await layer.attach()
    asked = anyio.Event()

    async def enter(*_: object) -> bool:
        asked.set()
        if end == "cancelled":
            await anyio.sleep_forever()
        raise LayerUnavailable("it is away")

    monkeypatch.setattr(processes.engine_of(layer), "enter", enter)
    async with anyio.create_task_group() as tasks:

        async def be_present() -> None:
            if end == "cancelled":
                await layer.group_add("room", mailbox.channel, member="ann")
            with pytest.raises(LayerUnavailable):
                await layer.group_add("room", mailbox.channel, member="ann")

        tasks.start_soon(be_present)
        await asked.wait()
        if end == "cancelled":
            tasks.cancel_scope.cancel()
    assert not layer.hub.has_members("room")
    # Whoever was there before, without being present, stays.
    await layer.group_add("room", mailbox.channel)
    with anyio.move_on_after(0.05), pytest.raises(LayerUnavailable):
        await layer.group_add("room", mailbox.channel, member="ann")
    await layer.group_send("room", number(1))
    assert await take(mailbox, 1) == [1]
    layer.detach(mailbox)


async def test_a_join_that_failed_can_be_tried_again(processes: Processes) -> None:
    layer = await processes.start()
    mailbox = await layer.attach()
    processes.engine_of(layer).cut()
    with pytest.raises(LayerUnavailable):
        await layer.group_add("room", mailbox.channel)
    assert not layer.hub.has_members("room")
    processes.engine_of(layer).mend()
    await layer.group_add("room", mailbox.channel)
    await layer.group_send("room", number(1))
    assert await take(mailbox, 1) == [1]
    layer.detach(mailbox)


async def test_a_join_that_was_cancelled_leaves_nothing(processes: Processes) -> None:
    layer = await processes.start(release_delay=0.01)
    mailbox = await layer.attach()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await layer.group_add("room", mailbox.channel)
    assert not layer.hub.has_members("room")
    await until(lambda: layer.statistics()["followed"] == 0)
    await layer.group_add("room", mailbox.channel)
    layer.detach(mailbox)


# What a message costs.


async def test_a_message_of_a_group_without_a_history_wakes_nobody_who_would_read_one(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = await processes.start()
    mailbox = await join(layer, "plain")
    read_later: list[object] = []
    monkeypatch.setattr(layer._link, "_read_later", lambda *args: read_later.append(args))
    for n in range(3):
        await layer.group_send("plain", number(n))
        assert await take(mailbox, 1) == [n]
    assert read_later == []
    layer.detach(mailbox)


# A loop of trio's may have taken the place of another in the same thread.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_send_never_asks_which_event_loop_runs(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = await processes.start()
    asked: list[str] = []

    def ask(name: str, known: Callable[[], object]) -> Callable[[], object]:
        return lambda: asked.append(name) or known()  # type: ignore[func-returns-value]

    token, now = anyio.lowlevel.current_token, anyio.current_time
    monkeypatch.setattr("asgi_notify.sync.current_token", ask("token", token))
    monkeypatch.setattr("anyio.current_time", ask("time", now))
    await layer.group_send("room", number(1))
    assert asked == []


# A layer that nobody has opened.


async def test_a_consumer_in_no_group_hears_other_processes_without_a_lifespan(
    processes: Processes,
) -> None:
    other = await processes.start()
    layer = EngineChannelLayer(lambda: DoubleEngine(processes.place))
    mailbox = await layer.attach()
    await other.send(mailbox.channel, number(1))
    assert await take(mailbox, 1) == [1]
    layer.detach(mailbox)
    await layer.close()


class Told(AsyncWebsocketConsumer):
    """Tells its client how it is reached, and what comes."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(self.channel_name)

    async def number(self, event: Message) -> None:
        await self.send(str(event["n"]))


async def test_a_client_of_a_consumer_in_no_group_is_reached_without_a_lifespan(
    processes: Processes,
) -> None:
    other = await processes.start()
    layer = EngineChannelLayer(lambda: DoubleEngine(processes.place))
    app = Told.as_asgi(channel_layer=layer)
    with anyio.fail_after(20):
        client = WebsocketCommunicator(app, "/")
        await client.connect()
        channel = await client.receive_from()
        await other.send(str(channel), number(1))
        assert await client.receive_from() == "1"
        await client.disconnect()
    await layer.close()


async def test_who_waits_for_a_channel_of_its_own_hears_other_processes_without_a_lifespan(
    processes: Processes,
) -> None:
    other = await processes.start()
    layer = EngineChannelLayer(lambda: DoubleEngine(processes.place))
    got: list[int] = []
    channel = await layer.new_channel()

    async def receive() -> None:
        got.append((await layer.receive(channel))["n"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await until(lambda: layer.hub.is_read)
            await other.send(channel, number(1))
    assert got == [1]
    await layer.close()


async def test_a_layer_that_cannot_be_opened_refuses_all_who_come_after_one_timeout(
    place: Place,
) -> None:
    attempts: list[float] = []

    class Away(DoubleEngine):
        async def open(self, receiver: Receiver) -> None:
            attempts.append(anyio.current_time())
            await anyio.sleep(0.05)
            raise LayerUnavailable("it is away")

    layer = EngineChannelLayer(lambda: Away(place))
    refused: list[str] = []

    async def attach() -> None:
        with pytest.raises(LayerUnavailable) as caught:
            await layer.attach()
        refused.append(str(caught.value))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(attach)
    assert refused == ["it is away"] * 20
    assert len(attempts) == 1
    assert not layer.hub.attached
    await attach()
    assert len(attempts) == 2, "who comes later tries again"
    await layer.close()


# Several engines.


class Deaf(DoubleEngine):
    """Gives no answer for as long as it is cut, as a server that was stopped."""

    async def _reach(self) -> None:
        while self.is_cut:
            await anyio.sleep_forever()
        await super()._reach()


@pytest.fixture
def sides(clock: Clock) -> dict[str, Deaf]:
    return {name: Deaf(Place(clock)) for name in ("one", "other")}


async def test_a_server_that_does_not_answer_fails_the_joins_of_its_own_groups_alone(
    sides: dict[str, Deaf], clock: Clock
) -> None:
    groups = [f"{kind}{number}" for kind in ("room", "plain") for number in range(15)]
    lost = {group for group in groups if rendezvous(sides, group) == "other"}
    assert 5 <= len(lost) <= 25
    joined: set[str] = set()
    refused: dict[str, str] = {}

    async def join_one(group: str) -> None:
        try:
            await layer.group_add(group, mailbox.channel)
            joined.add(group)
        except LayerUnavailable as error:
            refused[group] = str(error)

    kept = History(size=50, ttl=60)
    layer = EngineChannelLayer(lambda: ShardedEngine(sides), history={"room*": kept}, timeout=0.5)
    async with layer:
        mailbox = await layer.attach()
        sides["other"].is_cut = True  # and nobody knows yet
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for group in groups:
                    tasks.start_soon(join_one, group)
                await until(lambda: len(joined) == len(groups) - len(lost))
                assert refused == {}, "nobody has waited for the other server"
                late = next(name for name in map(str, range(99)) if name not in groups
                            and rendezvous(sides, name) == "one")  # fmt: skip
                await layer.group_add(late, mailbox.channel)
                assert refused == {}
        assert joined == set(groups) - lost
        assert refused.keys() == lost
        assert all("could not be joined within 0.5 s" in text for text in refused.values())
        sides["other"].is_cut = False
        for group in lost:
            await layer.group_add(group, mailbox.channel)
        for group in groups:
            await layer.group_send(group, number(1))
        assert await take(mailbox, len(groups)) == [1] * len(groups)
        layer.detach(mailbox)


# Single channels.


async def test_a_join_while_the_layer_closes_ends(processes: Processes) -> None:
    layer = await processes.start()
    link = layer._link
    assert link is not None
    failed: list[LayerUnavailable] = []

    async def try_to_join() -> None:
        try:
            await link.join("room", "there.abc!1", None)
        except LayerUnavailable as error:
            failed.append(error)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as joining:
            joining.start_soon(try_to_join)
            await checkpoint()
            await link.close()
        await try_to_join()
    assert all("closed" in str(error) for error in failed)
    assert failed


async def test_a_group_that_is_joined_while_it_is_let_go_is_followed(
    processes: Processes,
) -> None:
    layer = await processes.start(release_delay=0.02)
    engine, letting_go = processes.engine_of(layer), anyio.Event()
    unsubscribe = engine.unsubscribe

    async def slowly(topics: Collection[str]) -> None:
        letting_go.set()
        await anyio.sleep(0.1)
        await unsubscribe(topics)

    engine.unsubscribe = slowly  # type: ignore[method-assign]
    mailbox = await join(layer, "lobby")
    await layer.group_discard("lobby", mailbox.channel)
    with anyio.fail_after(20):
        await letting_go.wait()
        await layer.group_add("lobby", mailbox.channel)
        await anyio.sleep(0.2)  # the end of the first subscription has come by now
        assert (await layer.group_send("lobby", number(1))).reached == 1
        assert await read(mailbox) == number(1)
    layer.detach(mailbox)


async def test_a_history_that_one_process_knows_of_loses_nothing_in_another(
    processes: Processes,
) -> None:
    new, old = await processes.start(), await processes.start(history={})
    mailbox = await join(old, "room", tell_gaps=True)
    with anyio.fail_after(20):
        for n in (1, 2):
            await new.group_send("room", number(n))
            assert await read(mailbox) == number(n)
    old.detach(mailbox)


async def test_a_channel_of_another_process_is_reached(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    mailbox = await second.attach()
    await first.send(mailbox.channel, number(1))
    assert await take(mailbox, 1) == [1]
    own = await second.new_channel()
    await first.send(own, number(2))
    with anyio.fail_after(20):
        assert (await second.receive(own))["n"] == 2
    second.detach(mailbox)
    await first.send(mailbox.channel, number(3))
    await until(lambda: second.hub.drops["left"] == 1)


async def test_a_fixed_channel_gives_each_message_to_one_worker(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start(capacity=10)
    got: list[int] = []

    async def worker(layer: EngineChannelLayer) -> None:
        while True:
            got.append((await layer.receive("work"))["n"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for layer in (first, second):
                tasks.start_soon(worker, layer)
            for n in range(30):
                await first.send("work", number(n))
            await until(lambda: len(got) == 30)
            tasks.cancel_scope.cancel()
    assert sorted(got) == list(range(30))
    for n in range(10):
        await second.send("work", number(n))
    with pytest.raises(ChannelFull, match="work takes no more than 10 unread messages"):
        await second.send("work", number(10))


async def test_a_message_over_the_limit_is_refused_with_the_way_out(processes: Processes) -> None:
    layer = await processes.start(max_message_size=1000)
    with pytest.raises(InvalidMessage, match="at most 1000: send where the data is found"):
        await layer.group_send("room", {"type": "note", "text": "x" * 1000})


# Who is there.


async def test_the_channels_of_all_processes_are_listed(processes: Processes) -> None:
    first, second = await processes.start(), await processes.start()
    one, two = await join(first, "room"), await second.attach()
    await second.group_add("room", two.channel, info={"name": "Ada"})
    for layer in (first, second):
        assert await layer.group_channels("room") == {
            one.channel: None,
            two.channel: {"name": "Ada"},
        }
    assert await first.group_channels("room.empty") == {}
    first.detach(one)
    second.detach(two)


async def test_presence_is_that_of_all_processes(processes: Processes) -> None:
    first = await processes.start(presence_grace=0.01)
    second = await processes.start(presence_grace=0.01)
    follower = await first.attach()
    await first.presence_follow("room", follower.channel)
    one, two = await first.attach(), await second.attach()
    await first.group_add("room", one.channel, member="ada")
    await second.group_add("room", two.channel, member="ada")
    assert await first.presence_count("room") == 1
    assert set(await second.presence("room")) == {one.channel, two.channel}
    first.detach(one)
    second.detach(two)
    with anyio.fail_after(20):
        events = [await read(follower), await read(follower)] if await moved(processes) else []
    assert [event["type"] for event in events] == ["presence.join", "presence.leave"]
    assert await second.presence_count("room") == 0
    first.detach(follower)


async def moved(processes: Processes) -> bool:
    """Let the grace pass on the clock of the place."""
    for engine in processes.place.engines:
        await until(lambda engine=engine: not engine.place.presence.get("room"))  # type: ignore[misc]
    processes._clock.move(1)
    return True


async def test_the_members_of_a_process_that_died_are_gone_when_their_lease_is_over(
    processes: Processes, clock: Clock
) -> None:
    first = await processes.start(presence_grace=1)
    second = await processes.start(presence_grace=1, presence_lease=30)
    follower, gone = await first.attach(), await second.attach()
    await first.presence_follow("room", follower.channel)
    await second.group_add("room", gone.channel, member="ada")
    processes.engine_of(second).cut()
    clock.move(29)
    assert await first.presence_count("room") == 1
    clock.move(2.5)
    assert await first.presence_count("room") == 0
    with anyio.fail_after(20):
        assert [(await read(follower))["type"] for _ in range(2)] == [
            "presence.join",
            "presence.leave",
        ]
    processes.engine_of(second).mend()
    first.detach(follower)
    second.detach(gone)


async def test_members_whose_leases_ran_out_in_an_outage_come_back_for_who_follows(
    processes: Processes, clock: Clock
) -> None:
    one, other = await processes.start(presence_lease=0.3), await processes.start()
    mailbox, follower = await join(one), await other.attach()
    await other.presence_follow("room", follower.channel)
    await one.group_add("room", mailbox.channel, member="ada", info={"n": 1})
    processes.engine_of(one).cut()
    event = {"group": "room", "member": "ada", "info": {"n": 1}}
    with anyio.fail_after(10):
        assert await read(follower) == {"type": "presence.join", **event}
        clock.move(1)  # over the lease
        await other.presence("room")
        clock.move(60)  # and over the grace
        await other.presence("room")
        assert await read(follower) == {"type": "presence.leave", **event}
        processes.engine_of(one).mend()
        assert await read(follower) == {"type": "presence.join", **event}
    one.detach(mailbox)
    other.detach(follower)

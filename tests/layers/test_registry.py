"""From a URL or an alias to a layer; each mistake is answered with the way out."""

import traceback
from collections.abc import Iterator

import pytest

from asgi_notify.exceptions import InvalidChannelLayerError
from asgi_notify.layers import (
    BaseChannelLayer,
    ChannelLayerManager,
    InMemoryChannelLayer,
    channel_layers,
    get_channel_layer,
    layer_from_url,
    registry,
)


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> ChannelLayerManager:
    """A manager without layers, in an environment that names none."""
    monkeypatch.delenv("ASGI_NOTIFY_LAYER", raising=False)
    return ChannelLayerManager()


@pytest.fixture
def default(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Forgets the process's default layer before and after the test."""
    before = channel_layers.set("default", None)
    yield monkeypatch
    channel_layers.set("default", before)


# URLs.


@pytest.mark.parametrize("url", ["memory://", "memory:", "memory:///", "MEMORY://", "memory://?"])
def test_memory_is_the_layer_of_this_process(url: str) -> None:
    layer = layer_from_url(url)
    assert type(layer) is InMemoryChannelLayer
    assert (layer.capacity, layer.expiry, layer.overflow, layer.debug) == (
        100, 60.0, "disconnect", False,
    )  # fmt: skip


def test_options_follow_as_a_query() -> None:
    layer = layer_from_url("memory://?capacity=500&expiry=1.5&overflow=drop_oldest&debug=1")
    assert (layer.capacity, layer.expiry, layer.overflow, layer.debug) == (
        500, 1.5, "drop_oldest", True,
    )  # fmt: skip


@pytest.mark.anyio
async def test_histories_are_named_by_globs_in_a_url() -> None:
    layer = layer_from_url(
        "memory://?history=user_*&history=order.*&history_size=2&history_ttl=1000&history_groups=2"
    )
    for group in ("user_1", "order.1", "plain"):
        for n in range(3):
            await layer.group_send(group, {"type": "number", "n": n})
    kept = [len((await layer.history(group)).messages) for group in ("user_1", "order.1", "plain")]
    assert kept == [2, 2, 0]
    await layer.group_send("user_2", {"type": "number", "n": 1})
    assert len((await layer.history("user_1")).messages) == 0, "one group too many"


@pytest.mark.anyio
async def test_the_default_layer_has_histories_for_users_alone(
    layers: ChannelLayerManager,
) -> None:
    for group, is_kept in (("user_42", True), ("room", False)):
        sent = await layers["default"].group_send(group, {"type": "number"})
        assert (sent.position is not None) is is_kept


@pytest.mark.anyio
async def test_how_long_a_key_is_known_and_a_leave_waits_is_said_in_a_url() -> None:
    layer = layer_from_url("memory://?presence_grace=0&idempotency_window=1e-9")
    await layer.group_add("room", "work", member="ada")
    await layer.group_discard("room", "work")
    assert await layer.presence_count("room") == 0
    await layer.group_add("room", "work")
    for n in range(2):
        await layer.group_send("room", {"type": "number", "n": n}, idempotency_key="k")
    assert [(await layer.receive("work"))["n"] for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("true", True), ("True", True), ("0", False), ("FALSE", False)]
)
def test_debug_is_switched_on_and_off(text: str, value: bool) -> None:
    assert layer_from_url(f"memory://?debug={text}").debug is value


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("carrier-pigeon://host", "no channel layer .*; known are memory://"),
        ("memory", "no channel layer for 'memory'; known are memory://"),
        ("", "no channel layer for ''; known are memory://"),
        ("memory://host:6379", "lives in this process; leave 'host:6379' out"),
        ("memory:///0", "lives in this process; leave '/0' out"),
        ("memory://[", "the URL of the channel layer cannot be read"),
        ("memory://?capasity=5", "no option 'capasity'; there are capacity, debug, expiry,"),
        ("memory://?capacity=many", "'many' is no value for capacity"),
        ("memory://?capacity=", "'' is no value for capacity"),
        ("memory://?capacity=0", "capacity is a number above 0, not 0"),
        ("memory://?debug=perhaps", "'perhaps' is no value for debug"),
        ("memory://?history_size=5", "history_size of which groups. add history=, such as"),
        ("memory://?history_ttl=5", "history_ttl of which groups. add history=, such as"),
        ("memory://?history=", "history is a glob such as 'user_.', not ''"),
        ("memory://?history=a*&history_size=0", "size is a whole number above 0, not 0"),
        ("memory://?history=a*&history_size=1.5", "'1.5' is no value for history_size"),
        ("memory://?history=a*&history_ttl=-1", "ttl is a number above 0"),
        ("memory://?history_groups=0", "history_groups is a whole number above 0, not 0"),
        ("memory://?idempotency_window=0", "idempotency_window is a number above 0"),
        ("memory://?presence_grace=-1", "presence_grace is a number of seconds"),
        ("memory://?overflow=block", "overflow is one of disconnect, drop_oldest, drop_newest"),
    ],
)
def test_a_url_that_describes_no_layer_is_answered_with_the_way_out(
    url: str, sentence: str
) -> None:
    with pytest.raises(InvalidChannelLayerError, match=sentence):
        layer_from_url(url)


def test_a_password_in_a_url_stays_out_of_the_error() -> None:
    with pytest.raises(InvalidChannelLayerError) as caught:
        layer_from_url("redsi://user:hunter2@host")
    assert "hunter2" not in str(caught.value)
    assert "redsi://" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *(f"valkey://:hun{character}ter@host:6379/0" for character in "/?#[]\u2100"),
        "valkey://hun?ter=1&x@host",
        ":hunter@host:6379",
        "//:hunter@host",
    ],
)
def test_a_password_that_breaks_a_url_stays_out_of_the_error_and_its_traceback(url: str) -> None:
    with pytest.raises(InvalidChannelLayerError) as caught:
        layer_from_url(url)
    text = "".join(traceback.format_exception(caught.value))
    shown = [line for line in text.splitlines() if not line.startswith(" ")]  # not the sources
    assert not any("hun" in line or "ter@" in line for line in shown)


def test_an_engines_own_error_about_a_layer_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(url: str) -> BaseChannelLayer:
        raise InvalidChannelLayerError("no server at this place; start one")

    monkeypatch.setattr(registry, "_load", lambda name: make)
    with pytest.raises(InvalidChannelLayerError, match=r"^no server at this place; start one$"):
        layer_from_url("memory://")


# Aliases.


def test_the_default_layer_is_made_once(layers: ChannelLayerManager) -> None:
    assert "default" in layers
    assert type(layers["default"]) is InMemoryChannelLayer
    assert layers["default"] is layers["default"]


def test_the_environment_names_the_default_layer(
    layers: ChannelLayerManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_LAYER", "memory://?capacity=7")
    assert layers["default"].capacity == 7


def test_two_threads_that_ask_first_get_the_same_default_layer(
    layers: ChannelLayerManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = layer_from_url
    first = made("memory://")

    def slow(url: str) -> BaseChannelLayer:
        layers.set("default", first)  # the other thread, between the question and the answer
        return made(url)

    monkeypatch.setattr(registry, "layer_from_url", slow)
    assert layers["default"] is first
    assert layers["default"] is first


def test_a_layer_is_set_and_found_by_its_alias(layers: ChannelLayerManager) -> None:
    layer = InMemoryChannelLayer()
    assert "chat" not in layers
    assert layers.set("chat", layer) is None
    assert "chat" in layers
    assert layers["chat"] is layer
    assert layers.set("chat", "memory://?capacity=3") is layer
    assert layers["chat"].capacity == 3


def test_an_alias_can_be_forgotten(layers: ChannelLayerManager) -> None:
    layer = InMemoryChannelLayer()
    layers.set("chat", layer)
    assert layers.set("chat", None) is layer
    assert "chat" not in layers
    assert layers.set("chat", None) is None


def test_a_url_that_is_wrong_leaves_the_alias_as_it_was(layers: ChannelLayerManager) -> None:
    layer = InMemoryChannelLayer()
    layers.set("chat", layer)
    with pytest.raises(InvalidChannelLayerError):
        layers.set("chat", "nothing://")
    assert layers["chat"] is layer


def test_an_unknown_alias_is_answered_with_what_to_write(layers: ChannelLayerManager) -> None:
    with pytest.raises(InvalidChannelLayerError, match=r"there are none: add it with channel_"):
        layers["chat"]
    layers.set("mail", "memory://")
    with pytest.raises(
        InvalidChannelLayerError,
        match=r"no channel layer 'chat'; there are mail: .*channel_layers\.set\('chat', 'memory://",
    ):
        layers["chat"]


def test_the_default_layer_of_the_process_is_what_everybody_gets(
    default: pytest.MonkeyPatch,
) -> None:
    default.setenv("ASGI_NOTIFY_LAYER", "memory://?capacity=9")
    layer = get_channel_layer()
    assert layer.capacity == 9
    assert get_channel_layer("default") is channel_layers["default"] is layer
    with pytest.raises(InvalidChannelLayerError):
        get_channel_layer("unheard-of")


# Opening and closing.


class Recorded(InMemoryChannelLayer):
    """Notes when it is opened and closed."""

    def __init__(self, steps: list[str], name: str, error: Exception | None = None) -> None:
        super().__init__()
        self.steps, self.name, self.error = steps, name, error

    async def open(self) -> None:
        if self.error is not None:
            raise self.error
        self.steps.append(f"{self.name} opens")

    async def close(self) -> None:
        self.steps.append(f"{self.name} closes")


@pytest.mark.anyio
async def test_running_opens_every_layer_and_closes_it(layers: ChannelLayerManager) -> None:
    steps: list[str] = []
    layers.set("default", Recorded(steps, "default"))
    layers.set("chat", Recorded(steps, "chat"))
    async with layers.running():
        assert steps == ["default opens", "chat opens"]
    assert steps[2:] == ["chat closes", "default closes"]


@pytest.mark.anyio
async def test_running_makes_the_default_layer(layers: ChannelLayerManager) -> None:
    async with layers.running():
        made = vars(layers)["_layers"]
        assert list(made) == ["default"]


@pytest.mark.anyio
async def test_a_layer_that_does_not_open_leaves_none_open(layers: ChannelLayerManager) -> None:
    steps: list[str] = []
    layers.set("default", Recorded(steps, "default"))
    layers.set("chat", Recorded(steps, "chat", ConnectionError("no server")))
    with pytest.raises(ConnectionError):
        async with layers.running():
            raise AssertionError("the application does not start")
    assert steps == ["default opens", "default closes"]


@pytest.mark.anyio
async def test_closing_closes_every_layer_even_if_one_fails(layers: ChannelLayerManager) -> None:
    steps: list[str] = []

    class Failing(Recorded):
        async def close(self) -> None:
            await super().close()
            raise ConnectionError("the server is gone")

    layers.set("default", Recorded(steps, "default"))
    layers.set("chat", Failing(steps, "chat"))
    with pytest.raises(ConnectionError):
        await layers.close()
    assert sorted(steps) == ["chat closes", "default closes"]


@pytest.mark.anyio
async def test_an_alias_may_be_set_while_the_layers_open(layers: ChannelLayerManager) -> None:
    steps: list[str] = []

    class Setting(Recorded):
        async def open(self) -> None:
            await super().open()
            layers.set("late", "memory://")

    layers.set("default", Setting(steps, "default"))
    async with layers.running():
        assert "late" in layers
    assert steps == ["default opens", "default closes"]

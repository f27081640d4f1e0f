"""That a message is spelled once for all who get it, and how much is remembered."""

import json

import pytest

from asgi_notify.codec import FrozenMessage, stamped
from asgi_notify.exceptions import InvalidMessage
from asgi_notify.positions import Position
from asgi_notify.protocol.frames import notification
from asgi_notify.spelling import ENTRY, LastSpelled, SpelledOnce
from asgi_notify.types import Message


def spell(message: FrozenMessage) -> str:
    return notification(message.group, message.position, message["data"])


def notified(number: int, group: str = "g", data: object = None) -> FrozenMessage:
    return stamped({"type": "send.notification", "data": data}, group, Position("a" * 8, number))


def test_a_message_is_spelled_once_for_all_who_get_it() -> None:
    spelled = SpelledOnce(spell)
    message = notified(1, data={"a": 1})
    first = spelled(message)
    assert json.loads(first)["id"] == "aaaaaaaa-1"
    assert spelled(message) is first


def test_messages_that_look_alike_are_not_taken_for_each_other() -> None:
    spelled = SpelledOnce(spell)
    texts = {spelled(notified(number % 10)) for number in range(1000)}
    assert len(texts) == 10


def test_what_is_remembered_is_bounded_and_what_is_new_stays() -> None:
    spelled = SpelledOnce(spell, memory=10_000)
    messages = [notified(number, data="x" * 50) for number in range(100)]
    size = len(spelled(messages[0]))
    for message in messages:
        spelled(message)
    kept = [*spelled._old.values(), *spelled._new.values()]
    assert sum(len(text) for _, text in kept) <= 2 * (10_000 + size)
    lately = [spelled(message) for message in messages[-5:]]
    assert all(text is again for text, again in zip(
        lately, map(spelled, messages[-5:]), strict=True
    ))  # fmt: skip


@pytest.mark.parametrize("text", ["", "1"])
def test_short_texts_do_not_keep_any_number_of_messages(text: str) -> None:
    spelled = SpelledOnce(lambda message: text, memory=10_000)
    for number in range(1000):
        assert spelled(notified(number)) == text
    assert len(spelled._old) + len(spelled._new) <= 2 * (10_000 / ENTRY + 1)


def test_a_burst_is_spelled_once_in_whatever_order_it_is_read() -> None:
    spelled = SpelledOnce(spell)
    burst = [notified(number) for number in range(100)]
    first = [spelled(message) for message in burst]
    again = [spelled(message) for message in burst]
    assert all(one is two for one, two in zip(first, again, strict=True))


def test_a_message_that_cannot_be_spelled_is_refused_each_time() -> None:
    spelled = SpelledOnce(spell)
    message = notified(1, data={1})
    for _ in range(2):
        with pytest.raises(InvalidMessage):
            spelled(message)


def test_the_text_of_the_last_message_is_at_hand() -> None:
    made: list[Message] = []

    def spell(message: Message) -> str:
        made.append(message)
        return str(message["data"])

    last = LastSpelled(spell)
    one: Message = notified(1, data="a")
    other: Message = notified(2, data="é")
    assert LastSpelled(spell).known == (None, None)
    assert (last.find(one), last.known) == ("a", (one, "a"))
    assert (last.find(other), last.known) == ("é", (other, "é"))
    assert made == [one, other]


@pytest.mark.parametrize("data", [{}, "\ud800"])
def test_a_message_without_a_text_is_at_hand_as_such(data: str | dict[str, str]) -> None:
    last = LastSpelled(lambda message: message["data"] + "")
    assert last.find(notified(1, data="a")) == "a"
    message = notified(2, data=data)
    assert last.find(message) is None
    assert last.known == (message, None)


def test_event_loops_in_several_threads_never_get_the_text_of_each_others_message() -> None:
    """One loop is about to have its text while another one's walk comes by."""
    here, there = notified(1, data="here"), notified(2, data="there")

    def spell(message: Message) -> str:
        if message is here:
            assert last.find(there) == "there"  # another thread's
        return str(message["data"])

    last = LastSpelled(spell)
    assert last.find(here) == "here"
    for message in here, there:
        known, text = last.known
        assert text == (known or {}).get("data")
        assert last.find(message) == message["data"]

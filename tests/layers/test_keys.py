"""How names are spelled as keys: apart from each other, and together in one slot."""

from collections import Counter
from fnmatch import fnmatchcase

import pytest

from asgi_notify.exceptions import InvalidChannelLayerError
from asgi_notify.layers.keys import HOMES, SLOTS, Keys, slot_of, tag_of

NAMES = [f"user_{number}" for number in range(20_000)]


def all_keys(keys: Keys, name: str) -> list[str]:
    return [
        keys.topic(name),
        keys.stream(name),
        keys.root(name),
        keys.publication(name, "key"),
        *keys.presence(name),
        *keys.queue(name),
    ]


@pytest.mark.parametrize("name", ["room", "a{b}c", "}", "{}", "a!b", "x" * 100])
def test_all_keys_of_a_name_are_in_one_slot_and_differ(name: str) -> None:
    keys = all_keys(Keys(), name)
    assert len({slot_of(key) for key in keys}) == 1
    assert len(set(keys)) == len(keys)


def test_names_are_spread_evenly_over_the_nodes_of_any_cluster() -> None:
    slots = [slot_of(Keys().topic(name)) for name in NAMES]
    for nodes in (3, 16, 100):
        counted = Counter(slot * nodes // SLOTS for slot in slots)
        assert len(counted) == nodes
        assert max(counted.values()) < 1.5 * len(NAMES) / nodes


def test_there_are_few_roots() -> None:
    roots = {Keys().root(name) for name in NAMES}
    assert len(roots) <= HOMES
    assert len({slot_of(root) for root in roots}) == len(roots)


def test_slots_are_those_of_the_specification() -> None:
    assert slot_of("123456789") == 0x31C3  # Redis cluster specification, appendix A
    assert slot_of("{user1000}.following") == slot_of("{user1000}.followers") == slot_of("user1000")
    assert slot_of("foo{}{bar}") != slot_of("foo{}{baz}")  # nothing in the first braces
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")
    assert slot_of("foo{bar}{zap}") == slot_of("bar")


def test_tags_stay_what_they_are() -> None:
    # Processes of two releases run side by side during an update.
    assert [tag_of(name) for name in ("user_42", "room", "x")] == ["1667", "3151", "186"]


def test_topics_and_keys_of_publications_never_run_into_each_other() -> None:
    keys = Keys()
    assert keys.publication("a", "b:c") != keys.publication("a:b", "c")


def test_patterns_find_their_own_keys_alone() -> None:
    keys = Keys("shop")
    for key in all_keys(keys, "room"):
        assert any(fnmatchcase(key, pattern) for pattern in keys.patterns)
    assert fnmatchcase(keys.root("room"), keys.roots)
    assert not fnmatchcase(keys.topic("r"), keys.roots)


@pytest.mark.parametrize("prefix", ["shop:eu", "shop:m", "shop:pl", "shop:r", "shop:m:"])
def test_patterns_find_no_key_of_a_longer_prefix(prefix: str) -> None:
    keys, others = Keys("shop"), all_keys(Keys(prefix), "room")
    for pattern in (keys.roots, *keys.patterns):
        assert [key for key in others if fnmatchcase(key, pattern)] == []


@pytest.mark.parametrize("prefix", ["", "a{b", "a}", "a b", "a*", "ä", "x" * 65])
def test_a_prefix_that_would_be_misread_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match="prefix"):
        Keys(prefix)

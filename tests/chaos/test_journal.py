"""The checker of the chaos test finds each kind of broken promise, and no others."""

import pytest

from tests.chaos.journal import Got, Journal, Published, Story, Told, faults, holes

GAP = Told("g", "full")


def got(offset: int, number: int, publisher: str = "p", epoch: str = "first") -> Got:
    return Got("g", f"{epoch}-{offset}", publisher, number)


def begun() -> Got:
    return Got("g", "first-0")


def story(*journal: Got | Told, top: str | None = None) -> Story:
    last = next(entry for entry in reversed(journal) if isinstance(entry, Got))
    return Story({"client": list(journal)}, [], {"g": top or last.id})


@pytest.mark.parametrize(
    "journal",
    [
        [begun(), got(1, 1), got(2, 2), got(3, 1, "q")],
        [begun(), got(1, 1), GAP, got(4, 4)],
        [begun(), GAP, got(4, 4)],
        [begun(), got(1, 1), Told("g", "full", 2), got(4, 4)],
        [begun(), got(1, 1), Told("g", "unrecovered"), got(1, 3, epoch="second")],
        # Sent as the server died, and once more because nobody had answered.
        [begun(), got(1, 1), Told("g", "unrecovered"), got(1, 1, epoch="second")],
        # Nobody can say before the first message in which epoch it will be.
        [begun(), got(1, 1, epoch="other"), got(2, 2, epoch="other")],
        # What was told without need takes nothing away.
        [begun(), got(1, 1), GAP, got(2, 2)],
    ],
)
def test_what_is_whole_or_told_is_no_fault(journal: Journal) -> None:
    assert faults(story(*journal)) == []


@pytest.mark.parametrize(
    ("journal", "sentence"),
    [
        ([begun(), got(1, 1), got(3, 1, "q")], "a hole that was not told"),
        ([begun(), got(2, 1)], "a hole that was not told"),
        ([begun(), GAP, got(2, 2), got(4, 4)], "a hole that was not told"),
        ([begun(), got(1, 1), got(3, 3), GAP], "a hole that was not told"),
        ([begun(), got(1, 1), Told("other", "full"), got(3, 3)], "a hole that was not told"),
        ([begun(), got(1, 1), got(1, 1)], "a repeat"),
        ([begun(), got(1, 1), GAP, got(1, 1)], "a repeat"),
        ([begun(), got(1, 1), Told("g", "full", 1), got(4, 4)], "larger than was told"),
        ([begun(), got(1, 1), got(1, 2, epoch="second")], "a new life of the server was not told"),
        ([begun(), got(1, 2, epoch="other")], "p was not heard"),
        ([begun(), got(2, 1, epoch="other")], "a new life of the server was not told"),
        (
            [begun(), GAP, got(1, 1, epoch="second"), GAP, got(1, 2)],
            "an epoch came back",
        ),
        # The server's offsets hide it, the publisher's numbers do not.
        ([begun(), got(1, 1), got(2, 3)], "p was not heard"),
        ([begun(), got(1, 2)], "p was not heard"),
        ([begun(), got(1, 1), got(2, 1, "q"), got(3, 3)], "p was not heard"),
        ([begun(), got(1, 1), got(2, 1)], "p was heard twice"),
        ([begun(), got(1, 2), GAP, got(1, 1, epoch="second")], "p was heard twice"),
    ],
)
def test_every_other_step_is_found(journal: Journal, sentence: str) -> None:
    assert any(sentence in fault for fault in faults(story(*journal)))


def test_epochs_that_two_clients_see_in_different_order_are_found() -> None:
    second, third = got(1, 1, epoch="second"), got(1, 2, epoch="third")
    told = story(begun(), GAP, second, GAP, third)
    told.journals["other"] = [begun(), GAP, third]
    assert faults(told) == []
    told.journals["other"] = [begun(), GAP, third, GAP, second, GAP, got(2, 3, epoch="second")]
    assert any("client after it" in fault for fault in faults(told))


def test_who_stops_early_is_found() -> None:
    assert "stopped at" in faults(story(begun(), got(1, 1), top="first-2"))[0]


def test_a_publication_with_two_places_is_found_also_where_no_client_saw_it() -> None:
    told = story(begun(), got(1, 1))
    told.published = [Published("g", "p", 1, "first-1"), Published("g", "p", 1, "first-1")]
    assert faults(told) == []
    told.published.append(Published("g", "p", 1, "first-2"))
    assert "sent twice" in faults(told)[0]


def test_a_place_that_holds_two_messages_is_found() -> None:
    told = story(begun(), got(1, 1))
    told.published = [Published("g", "q", 1, "first-1")]
    assert "two messages in one place" in faults(told)[0]


def test_holes_counts_what_was_missed_within_a_life_of_the_server() -> None:
    assert holes([begun(), got(1, 1), GAP, got(5, 5), GAP, got(9, 7, epoch="second")]) == 3

"""What clients and publishers write down in a run, and what a checker has to say to it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby, pairwise

__all__ = ["Got", "Journal", "Published", "Story", "Told", "faults", "holes"]


@dataclass(frozen=True)
class Got:
    """A notification that came to a client, or, with number 0, where a client began."""

    group: str
    id: str  # its position
    publisher: str = ""
    number: int = 0  # 1, 2, ... for each publisher in each group

    @property
    def epoch(self) -> str:
        """The life of the server that it is from."""
        return self.id.rpartition("-")[0]

    @property
    def offset(self) -> int:
        """How many came before it in that life, and itself."""
        return int(self.id.rpartition("-")[2])


@dataclass(frozen=True)
class Told:
    """The client was told that messages of the group may be missing here."""

    group: str
    reason: str
    lost: int | None = None  # how many, where that was said


Journal = list[Got | Told]
"""What a client was brought, in its order."""


@dataclass(frozen=True)
class Published:
    """A message whose publication was answered, once for each answer."""

    group: str
    publisher: str
    number: int
    id: str


@dataclass
class Story:
    """All that was written down in one run.

    Attributes:
        journals: by client; each one's groups begin with a `Got` of number 0.
        published: what the publishers were answered, in their order.
        tops: where each group stood when everything had come to rest.
    """

    journals: dict[str, Journal] = field(default_factory=dict)
    published: list[Published] = field(default_factory=list)
    tops: dict[str, str] = field(default_factory=dict)


def faults(story: Story) -> list[str]:
    """Every promise that was broken, as a sentence.

    - Offsets follow each other without hole or repeat; where there is a hole,
      the client was told between the message before it and the one behind it,
      and if it was told how much is missing, then no more is.
    - So do each publisher's own numbers, which no server has a hand in.
    - Another epoch of the group, as after a restart of the server, is told like a hole; but
      for one who was at its very beginning, and has it all.
    - Epochs follow each other in one order, for all clients, and none comes back.
    - A publication has one place in a life of the server, however often it was tried.
    - One place holds one message, whoever asks.
    - At the end everybody has the last message of each group.
    """
    found = [*_misplaced(story), *_disordered(story)]
    for client, journal in story.journals.items():
        for group in sorted({entry.group for entry in journal}):
            ours = [entry for entry in journal if entry.group == group]
            about = f"{client}, {group}"
            found += [f"{about}: {sentence}" for sentence in _breaks(ours)]
            found += [f"{about}: {sentence}" for sentence in _miscounts(ours)]
            last = _last(ours)
            if last is None or last.id != story.tops.get(group, ""):
                found.append(f"{about}: stopped at {last}, the group at {story.tops.get(group)}")
    return found


def holes(journal: Sequence[Got | Told]) -> int:
    """How many messages a client has missed within the lives of the server that it has seen."""
    lost = 0
    for group in {entry.group for entry in journal}:
        came = [entry for entry in journal if entry.group == group and isinstance(entry, Got)]
        lost += sum(
            after.offset - before.offset - 1
            for before, after in pairwise(came)
            if before.epoch == after.epoch
        )
    return lost


def _last(journal: Sequence[Got | Told]) -> Got | None:
    return next((entry for entry in reversed(journal) if isinstance(entry, Got)), None)


def _steps(journal: Sequence[Got | Told]) -> Iterator[tuple[Got, Got, list[Told]]]:
    """Each message with the one before it, and what the client was told between them."""
    before: Got | None = None
    told: list[Told] = []
    for entry in journal:
        if isinstance(entry, Told):
            told.append(entry)
            continue
        if before is not None:
            yield before, entry, told
        before, told = entry, []


def _breaks(journal: Sequence[Got | Told]) -> Iterator[str]:
    """Where offsets do not follow each other."""
    for before, after, told in _steps(journal):
        hole = after.offset - before.offset - 1
        if before.epoch != after.epoch:
            # Nobody knows before the first message in which epoch it will be.
            if not told and (before.offset, after.offset) != (0, 1):
                yield f"a new life of the server was not told: {before}, then {after}"
        elif hole < 0:
            yield f"a repeat: {before}, then {after}"
        elif hole and not told:
            yield f"a hole that was not told: {before}, then {after}"
        elif hole and hole > _most(told):
            yield f"a hole that is larger than was told: {before}, then {told}, then {after}"


def _most(told: Sequence[Told]) -> float:
    """How many messages may be missing, as the client was told."""
    return sum(math.inf if each.lost is None else each.lost for each in told)


def _miscounts(journal: Sequence[Got | Told]) -> Iterator[str]:
    """Where a publisher's own numbers do not follow each other."""
    publishers = {entry.publisher for entry in journal if isinstance(entry, Got) and entry.number}
    for publisher in sorted(publishers):
        theirs = [
            entry
            for entry in journal
            if isinstance(entry, Told) or entry.publisher == publisher or not entry.number
        ]
        for before, after, told in _steps(theirs):
            # A server that died before it answered may have sent the last one in its life.
            least = before.number + (before.epoch == after.epoch)
            if after.number < least:
                yield f"{publisher} was heard twice: {before}, then {after}"
            elif after.number > before.number + 1 and not told:
                yield f"{publisher} was not heard: {before}, then {after}"


def _misplaced(story: Story) -> Iterator[str]:
    """Messages with two places, and places with two messages."""
    places: dict[tuple[str, str, str, int], str] = {}
    holds: dict[tuple[str, str], tuple[str, int]] = {}
    for message in _all(story):
        epoch = message.id.rpartition("-")[0]
        name = (message.publisher, message.number)
        place = places.setdefault((message.group, epoch, *name), message.id)
        if place != message.id:
            yield f"sent twice in one life of the server: {message}, also at {place}"
        held = holds.setdefault((message.group, message.id), name)
        if held != name:
            yield f"two messages in one place: {message}, and {held}"


def _disordered(story: Story) -> Iterator[str]:
    """Epochs that come in another order, or come back."""
    ahead: dict[tuple[str, str, str], str] = {}  # group, epoch, a later one: who has seen it
    for client, journal in story.journals.items():
        for group in sorted({entry.group for entry in journal}):
            came = [one for one in journal if isinstance(one, Got) and one.group == group]
            epochs = [epoch for epoch, _ in groupby(entry.epoch for entry in came)]
            if len(set(epochs)) < len(epochs):
                yield f"{client}, {group}: an epoch came back: {epochs}"
            for before, after in combinations(dict.fromkeys(epochs), 2):
                ahead[group, before, after] = client
                if (group, after, before) in ahead:
                    other = ahead[group, after, before]
                    yield f"{group}: {client} saw {before} before {after}, {other} after it"


def _all(story: Story) -> Iterator[Got | Published]:
    yield from story.published
    seen: Mapping[str, Journal] = story.journals
    for journal in seen.values():
        yield from (entry for entry in journal if isinstance(entry, Got) and entry.number)

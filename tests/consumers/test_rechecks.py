"""Who was revoked during an outage is found by few questions, one at a time."""

from collections.abc import Collection, Sequence

import anyio
import pytest

from asgi_notify import InMemoryChannelLayer
from asgi_notify.auth import Identity, revoke_token, revoke_user
from asgi_notify.auth.revocations import login_group
from asgi_notify.consumers.rechecks import BATCH, Rechecks, rechecks_of
from asgi_notify.exceptions import LayerUnavailable

pytestmark = pytest.mark.anyio


class Login:
    def __init__(self, *identities: Identity) -> None:
        self.identities: Sequence[Identity] = identities
        self.is_revoked = False

    def revoke(self) -> None:
        self.is_revoked = True


class Asked(InMemoryChannelLayer):
    """Counts what it is asked.

    Attributes:
        most: questions on their way at the same time.
        away: names that it says nothing about, since their part is away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Collection[str]] = []
        self.most = self._now = 0
        self.away: set[str] = set()

    async def _is_marked(self, names: Collection[str], since: float) -> bool:
        self.questions.append(names)
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await anyio.lowlevel.checkpoint()
            if self.away & set(names):
                raise LayerUnavailable("away")
            return await super()._is_marked(names, since)
        finally:
            self._now -= 1


def logins_of(layer: Asked, size: int) -> tuple[Rechecks, list[Login]]:
    rechecks = Rechecks(layer)
    logins = [
        Login(Identity(f"user {number}", issued_at=100.0, token_id=f"token {number}"))
        for number in range(size)
    ]
    for login in logins:
        rechecks.watch(login)
    return rechecks, logins


def always(name: str) -> bool:
    return True


async def test_ten_thousand_are_asked_about_in_a_hundred_questions_one_at_a_time() -> None:
    layer = Asked()
    rechecks, logins = logins_of(layer, 10_000)
    await rechecks.ask_again(always)
    assert len(layer.questions) == 10_000 / BATCH
    assert layer.most == 1
    assert not any(login.is_revoked for login in logins)


async def test_of_many_those_who_are_revoked_are_found_and_nobody_else() -> None:
    layer = Asked()
    rechecks, logins = logins_of(layer, 1000)
    last = Login(  # is just being renewed
        Identity("last", token_id="old"), Identity("last", issued_at=100.0, token_id="new")
    )
    since = Login(Identity("user 5", issued_at=300.0))  # has come back after it was revoked
    for login in (last, since):
        rechecks.watch(login)
    for user in (5, 6, 999):
        await revoke_user(layer, f"user {user}", seconds=60, clock=lambda: 200.0)
    await revoke_token(layer, "token 500", seconds=60)
    await revoke_token(layer, "new", seconds=60)
    await rechecks.ask_again(always)
    assert [number for number, one in enumerate(logins) if one.is_revoked] == [5, 6, 500, 999]
    assert last.is_revoked
    assert not since.is_revoked
    assert len(layer.questions) < 11 + 5 * 2 * 8  # each is found by halves


async def test_only_what_lived_on_the_part_that_was_away_is_asked_about() -> None:
    layer = Asked()
    rechecks, logins = logins_of(layer, 300)
    there = {login_group(f"user {number}") for number in range(7)}
    layer.away = {login_group(f"user {number}") for number in range(7, 300)}
    await revoke_user(layer, "user 3", seconds=60)
    await rechecks.ask_again(there.__contains__)
    assert [number for number, one in enumerate(logins) if one.is_revoked] == [3]
    assert set().union(*layer.questions) == there


async def test_a_later_outage_takes_over_what_one_before_could_not_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_notify.consumers.rechecks.PAUSE", 0.01)
    layer = Asked()
    rechecks, logins = logins_of(layer, 150)
    layer.away = {login_group("user 149"), login_group("user 1")}
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rechecks.ask_again, always)
            await anyio.sleep(0.05)
            for login in logins[2:]:  # they end meanwhile
                rechecks.forget(login)
            tasks.start_soon(rechecks.ask_again, always)
            await anyio.sleep(0.05)
            await revoke_user(layer, "user 1", seconds=60)
            layer.away = set()
    assert [number for number, one in enumerate(logins) if one.is_revoked] == [1]
    assert not rechecks._due


async def test_nothing_is_left_of_logins_that_have_ended() -> None:
    layer = Asked()
    rechecks = rechecks_of(layer)
    assert rechecks_of(layer) is rechecks
    assert rechecks_of(Asked()) is not rechecks
    one, two = Login(Identity("ann")), Login(Identity("bob"))
    for login in (one, two):
        rechecks.watch(login)
    assert len(layer._after_outages) == 1
    rechecks.forget(one)
    assert rechecks_of(layer) is rechecks
    assert len(rechecks) == 1
    rechecks.forget(two)
    rechecks.forget(two)
    assert not layer._after_outages
    assert rechecks_of(layer) is not rechecks

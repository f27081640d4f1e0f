"""Who may do what with which group."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

from asgi_notify.auth import Identity
from asgi_notify.auth.rules import (
    Action,
    Rule,
    anybody,
    groups_in_claim,
    own_group,
    public,
    rule,
)
from asgi_notify.exceptions import ConfigurationError

pytestmark = pytest.mark.anyio

ANN = Identity("ann", {"groups": ["team_7_*", "all"], "role": "admin"})


async def allowed(by: Rule, identity: Identity | None, group: str) -> list[str]:
    """What may be done with a group."""
    return [action for action in get_args(Action) if await by.allows(identity, action, group)]


@pytest.mark.parametrize(
    ("by", "identity", "group", "actions"),
    [
        (own_group, ANN, "user_ann", ["watch", "history"]),
        (own_group, ANN, "user_bob", []),
        (own_group, ANN, "user_ann2", []),
        (own_group, ANN, "ann", []),
        (own_group, None, "user_None", []),
        (own_group, Identity("auth0|7"), "user_..auth0.7C7", ["watch", "history"]),
        (own_group, Identity("..auth0.7C7"), "user_..auth0.7C7", []),
        (groups_in_claim("groups"), ANN, "team_7_red", ["watch", "history"]),
        (groups_in_claim("groups"), ANN, "all", ["watch", "history"]),
        (groups_in_claim("groups"), ANN, "alle", []),
        (groups_in_claim("groups"), ANN, "team_8_red", []),
        (groups_in_claim("groups"), None, "all", []),
        (groups_in_claim("groups"), Identity("bob"), "all", []),
        (groups_in_claim("role"), ANN, "admin", []),
        (groups_in_claim("role"), ANN, "a", []),
        (groups_in_claim("groups", ["publish"]), ANN, "all", ["publish"]),
        (public("news_*"), None, "news_today", ["watch", "history"]),
        (public("news_*", "faq"), None, "faq", ["watch", "history"]),
        (public("news_*"), None, "NEWS_today", []),
        (public("chat", actions=["watch", "publish"]), None, "chat", ["watch", "publish"]),
        (public("chat", actions="presence"), None, "chat", ["presence"]),
        (anybody, None, "user_ann", ["watch", "history"]),
        (own_group | public("news"), None, "news", ["watch", "history"]),
        (own_group | public("news"), ANN, "user_ann", ["watch", "history"]),
        (own_group | public("news"), None, "user_ann", []),
        (own_group & public("user_a*"), ANN, "user_ann", ["watch", "history"]),
        (own_group & public("user_b*"), ANN, "user_ann", []),
    ],
)
async def test_what_is_allowed(
    by: Rule, identity: Identity | None, group: str, actions: list[str]
) -> None:
    assert await allowed(by, identity, group) == actions


def plain(identity: Identity | None, action: Action, group: str) -> bool:
    return identity == ANN and action == "publish" and group == "chat"


async def waiting(identity: Identity | None, action: Action, group: str) -> bool:
    return plain(identity, action, group)


@pytest.mark.parametrize("ask", [plain, waiting], ids=["plain", "async"])
async def test_a_rule_of_ones_own(ask: Callable[..., Any]) -> None:
    own = rule(ask)
    assert await allowed(own, ANN, "chat") == ["publish"]
    assert await allowed(own, None, "chat") == []
    assert await allowed(own | own_group, ANN, "user_ann") == ["watch", "history"]


@pytest.mark.parametrize("answer", [None, 1, "yes", [True]])
async def test_anything_but_true_and_false_is_no_answer(answer: object) -> None:
    own = rule(lambda identity, action, group: answer)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigurationError, match="True or False"):
        await own.allows(ANN, "watch", "chat")


async def test_what_a_rule_raises_is_raised_before_another_can_allow_it() -> None:
    @rule
    def broken(identity: Identity | None, action: Action, group: str) -> bool:
        raise LookupError

    with pytest.raises(LookupError):
        await (broken | anybody).allows(ANN, "watch", "chat")


@pytest.mark.parametrize(
    ("make", "way_out"),
    [
        (lambda: public(), r"public\('news_\*'\)"),
        (lambda: public(""), r"public\('news_\*'\)"),
        (lambda: public("a", actions=["read"]), "watch"),
        (lambda: public("a", actions=[]), "watch"),
        (lambda: groups_in_claim("groups", "everything"), "watch"),
        (
            lambda: rule("own_group"),  # type: ignore[arg-type]
            "function",
        ),
    ],
)
def test_a_mistake_is_told_when_a_rule_is_made(make: Callable[[], Rule], way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        make()


def test_a_rule_is_combined_with_rules_alone() -> None:
    with pytest.raises(TypeError):
        own_group | plain  # type: ignore[operator]


def test_a_rule_says_what_it_is() -> None:
    mixed = own_group | groups_in_claim("groups") & public("news_*") | rule(plain)
    assert repr(mixed) == (
        "((own_group | (groups_in_claim('groups') & public('news_*'))) | rule(plain))"
    )

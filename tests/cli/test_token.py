"""``asgi-notify token``: a token that the server with the same keys believes."""

import time

import anyio
import pytest

from asgi_notify.auth import Identity
from asgi_notify.auth.configured import verifier_of
from asgi_notify.auth.verifying import verify_with
from asgi_notify.settings import Settings
from tests.cli.conftest import Run

KEYS = {
    "signed": {"ASGI_NOTIFY_TOKEN_KEYS": f"{'n' * 32},{'o' * 32}"},
    "jwt": {"ASGI_NOTIFY_JWT_KEY": "s" * 32},
    "jwt with all": {
        "ASGI_NOTIFY_JWT_KEY": "s" * 64,
        "ASGI_NOTIFY_JWT_AUDIENCE": "us,them",
        "ASGI_NOTIFY_JWT_ISSUER": "https://login.example",
        "ASGI_NOTIFY_JWT_ALGORITHMS": "HS512",
    },
}


def shown_by(token: str, environ: dict[str, str]) -> Identity:
    verifier = verifier_of(Settings.from_environ(environ))
    assert verifier is not None
    return anyio.run(verify_with(verifier), token)


@pytest.mark.parametrize("kind", KEYS)
def test_the_server_believes_it(run: Run, environ: dict[str, str], kind: str) -> None:
    environ.update(KEYS[kind])
    result = run("token", "42", "--max-age", "60")
    assert result.exit_code == 0
    assert result.output.count("\n") == 1
    identity = shown_by(result.output.strip(), environ)
    assert identity.id == "42"
    assert identity.expires_at == pytest.approx(time.time() + 60, abs=30)
    again = shown_by(run("token", "42").output.strip(), environ)
    assert None is not identity.token_id != again.token_id  # one can be revoked without the other


def test_it_lasts_an_hour(run: Run, environ: dict[str, str]) -> None:
    environ.update(KEYS["signed"])
    identity = shown_by(run("token", "ann").output.strip(), environ)
    assert identity.expires_at == pytest.approx(time.time() + 3600, abs=30)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "ASGI_NOTIFY_TOKEN_KEYS"),
        ({"ASGI_NOTIFY_JWT_JWKS": "https://login.example/keys"}, "your login service"),
        ({"ASGI_NOTIFY_TOKEN_KEYS": "short-key"}, "32 bytes"),
    ],
)
def test_without_a_key_that_signs_it_says_the_way_out(
    run: Run, environ: dict[str, str], variables: dict[str, str], sentence: str
) -> None:
    environ.update(variables)
    refused = run("token", "42")
    assert refused.exit_code == 2
    assert sentence in " ".join(refused.output.split())
    assert "short-key" not in refused.output


@pytest.mark.parametrize("arguments", [["token"], ["token", ""], ["token", "42", "--max-age", "0"]])
def test_what_makes_no_sense_is_refused(
    run: Run, environ: dict[str, str], arguments: list[str]
) -> None:
    environ.update(KEYS["signed"])
    assert run(*arguments).exit_code == 2

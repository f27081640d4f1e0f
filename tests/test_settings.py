"""What the environment decides."""

import os
from pathlib import Path

import pytest

import asgi_notify
from asgi_notify.exceptions import ConfigurationError
from asgi_notify.settings import Settings


def test_an_empty_environment_leaves_the_defaults() -> None:
    assert Settings.from_environ({}) == Settings()
    assert Settings() == Settings(
        layer="memory://?history=user_*",
        publish_key=None,
        allowed_origins=(),
        allowed_hosts=(),
        handler_threads=40,
        max_body_size=65536,
    )


def test_every_variable_is_read() -> None:
    environ = {
        "ASGI_NOTIFY_LAYER": "memory://?capacity=5",
        "ASGI_NOTIFY_PUBLISH_KEY": "hunter2",
        "ASGI_NOTIFY_ALLOWED_ORIGINS": "https://a.example, https://b.example ,,",
        "ASGI_NOTIFY_ALLOWED_HOSTS": "a.example,, .b.example ",
        "ASGI_NOTIFY_HANDLER_THREADS": "7",
        "ASGI_NOTIFY_MAX_BODY_SIZE": "1000",
        "ASGI_NOTIFY_TRUSTED_PROXIES": "10.0.0.0/8, unix",
        "ASGI_NOTIFY_FORWARDED_HEADER": "forwarded",
        "ASGI_NOTIFY_TOKEN_KEYS": "one, two",
        "ASGI_NOTIFY_JWT_KEY": r"-----BEGIN\nx",
        "ASGI_NOTIFY_JWT_JWKS": "https://login.example/keys",
        "ASGI_NOTIFY_JWT_AUDIENCE": "us,them",
        "ASGI_NOTIFY_JWT_ISSUER": "https://login.example",
        "ASGI_NOTIFY_JWT_ALGORITHMS": "RS512",
        "ASGI_NOTIFY_AUTH_COOKIE": "login",
        "ASGI_NOTIFY_TICKET_KEYS": "three,four",
        "OTHER": "x",
    }
    assert Settings.from_environ(environ) == Settings(
        layer="memory://?capacity=5",
        publish_key="hunter2",
        allowed_origins=("https://a.example", "https://b.example"),
        allowed_hosts=("a.example", ".b.example"),
        handler_threads=7,
        max_body_size=1000,
        trusted_proxies=("10.0.0.0/8", "unix"),
        forwarded_header="forwarded",
        token_keys=("one", "two"),
        jwt_key="-----BEGIN\nx",
        jwt_jwks="https://login.example/keys",
        jwt_audience=("us", "them"),
        jwt_issuer=("https://login.example",),
        jwt_algorithms=("RS512",),
        auth_cookie="login",
        ticket_keys=("three", "four"),
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    names = ("LAYER", "PUBLISH_KEY", "ALLOWED_ORIGINS", "ALLOWED_HOSTS", "HANDLER_THREADS",
             "MAX_BODY_SIZE", "TOKEN_KEYS", "JWT_KEY", "JWT_JWKS", "JWT_AUDIENCE", "JWT_ISSUER",
             "JWT_ALGORITHMS", "AUTH_COOKIE", "TICKET_KEYS")  # fmt: skip
    assert Settings.from_environ({f"ASGI_NOTIFY_{name}": "" for name in names}) == Settings()


@pytest.mark.parametrize("name", ["ASGI_NOTIFY_HANDLER_THREADS", "ASGI_NOTIFY_MAX_BODY_SIZE"])
@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", " 7", "٣"])
def test_a_number_that_is_none_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} is a whole number of at least 1, not "):
        Settings.from_environ({name: text})


@pytest.mark.parametrize("name", ["STEPPING", "GATHERING", "DIRECT"])
def test_a_switch_is_one_or_nought(name: str) -> None:
    for text, is_on in ("", True), ("1", True), ("0", False):
        settings = Settings.from_environ({f"ASGI_NOTIFY_{name}": text})
        assert getattr(settings, name.lower()) is is_on
    with pytest.raises(ConfigurationError, match=f"^ASGI_NOTIFY_{name} is 1 .* not 'yes'$"):
        Settings.from_environ({f"ASGI_NOTIFY_{name}": "yes"})


MISSPELLED = {
    "TOKEN_KEY": "did you mean ASGI_NOTIFY_TOKEN_KEYS?",
    "TOKENS_KEYS": "did you mean ASGI_NOTIFY_TOKEN_KEYS?",
    "PUBLISHKEY": "did you mean ASGI_NOTIFY_PUBLISH_KEY?",
    "JWT_SECRET": "did you mean .*ASGI_NOTIFY_JWT_KEY",
    "AUTH_COKIE": "did you mean ASGI_NOTIFY_AUTH_COOKIE?",
    "ALLOW_ORIGINS": "did you mean ASGI_NOTIFY_ALLOWED_ORIGINS?",
    "STEPING": "did you mean ASGI_NOTIFY_STEPPING?",
    "LIMITS_CONNECTIONS": "those of limits begin ASGI_NOTIFY_LIMIT_",
}


@pytest.mark.parametrize("name", MISSPELLED)
def test_a_misspelled_variable_is_refused_and_the_right_one_named(name: str) -> None:
    expected = MISSPELLED[name].replace("?", r"\?")
    with pytest.raises(ConfigurationError, match=f"^ASGI_NOTIFY_{name} is no setting; {expected}"):
        Settings.from_environ({f"ASGI_NOTIFY_{name}": "k" * 40})


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP",
        "PORT_8000_TCP_ADDR", "AUTH_SERVICE_HOST", "AUTH_PORT_80_TCP_PROTO",
        "URL", "TOKEN", "ENCRYPTION_KEYS", "DEBUG",
    ],
)  # fmt: skip
def test_variables_of_others_are_left_alone(name: str) -> None:
    """Kubernetes sets those of a service that is called asgi-notify; a URL may name any."""
    assert Settings.from_environ({f"ASGI_NOTIFY_{name}": "x"}) == Settings()


@pytest.mark.parametrize("name", ["ASGI_NOTIFY_TOKEN_KEYS", "ASGI_NOTIFY_TICKET_KEYS"])
def test_a_list_without_a_key_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} is set, and there is no key in it$"):
        Settings.from_environ({name: " , "})


def test_settings_of_the_process_are_what_its_environment_says_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for value in ("3", "4"):
        monkeypatch.setenv("ASGI_NOTIFY_HANDLER_THREADS", value)
        assert Settings.of_process() == Settings.from_environ(os.environ)
        assert Settings.of_process().handler_threads == int(value)


# The command line hands variables on to its workers' processes, the registry makes the default
# layer, and Django's own variable is Django's.
DOORS = {
    "cli/serve.py", "cli/worker.py", "django_support.py", "layers/registry.py", "settings.py",
    "layers/urls.py",  # a variable that the URL of a layer names
}  # fmt: skip


def test_the_environment_is_read_at_doors_alone() -> None:
    package = Path(asgi_notify.__file__).parent
    reading = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    assert "settings.py" in reading
    assert reading <= DOORS


def test_settings_that_are_printed_keep_the_key_to_themselves() -> None:
    settings = Settings(publish_key="hunter2", token_keys=("hunter2",), jwt_key="hunter2")
    assert "hunter2" not in repr(settings)

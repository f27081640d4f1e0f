"""Who is logged in by Django's own sessions, wherever in front of Django a connection arrives.

Django is asked in a worker thread, and imported only here.
"""

from hashlib import sha256
from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from ..exceptions import Unauthorized
from .identity import Identity

__all__ = ["session_user", "token_id_of"]


def session_user(session_key: str) -> Identity:
    """Who a session of Django's belongs to; a verifier for `Authentication`.

    The cookie is ``settings.SESSION_COOKIE_NAME``. All of Django's own checks are made: that the
    session lives, that the password was not changed since, and that the user is active.

    Raises:
        Unauthorized: nobody is logged in there.
    """
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    request = HttpRequest()
    request.session = store
    user = get_user(request)
    if not user.is_authenticated or store.session_key is None:
        raise Unauthorized("nobody is logged in by this session")
    return Identity(
        str(user.pk),
        {"username": user.get_username()},
        expires_at=store.get_expiry_date().timestamp(),
        token_id=token_id_of(session_key),
    )


def token_id_of(session_key: str) -> str:
    """What `revoke_token` is told, to end the connections of one session when it logs out."""
    return f"django {sha256(session_key.encode()).hexdigest()}"  # the key itself is a secret

"""Who is logged in by a session of Django's, which a process can be set up for only once."""

import json
import subprocess
import sys

import pytest

from tests.servers import ROOT

pytestmark = pytest.mark.slow

SCRIPT = """
import json
import sys
from datetime import timedelta

import examples.login_django
from django.contrib.auth import get_user_model, login
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils.timezone import now

from asgi_notify.auth.django import session_user, token_id_of
from asgi_notify.exceptions import Unauthorized


def log_in(name):
    user = get_user_model().objects.create_user(name, password="old")
    request = HttpRequest()
    request.session = SessionStore()
    login(request, user)
    request.session.save()
    return user, request.session


answers = {}
for way, change in json.loads(sys.argv[1]).items():
    user, session = log_in(way)
    key = session.session_key
    identity = session_user(key)
    assert identity.id == str(user.pk)
    assert identity.claims == {"username": way}
    assert identity.expires_at > now().timestamp()
    assert identity.token_id == token_id_of(key)
    assert key not in repr(identity)
    exec(change)
    try:
        answers[way] = session_user(key).id
    except Unauthorized as error:
        answers[way] = str(error)
print(json.dumps(answers))
"""

CHANGES = {
    "another session": "key = 'x' * 32",
    "no session": "key = ''",
    "a session of nobody": "key = SessionStore(); key.create(); key = key.session_key",
    "a session that ended": "session.flush()",
    "a session that expired": (
        "Session.objects.filter(pk=key).update(expire_date=now() - timedelta(seconds=1))"
    ),
    "another password": "user.set_password('new'); user.save()",
    "a user who may not come in": "user.is_active = False; user.save()",
    "a user who is gone": "user.delete()",
}


def test_a_session_says_who_is_logged_in_as_long_as_django_would_take_it() -> None:
    command = [sys.executable, "-c", SCRIPT, json.dumps(CHANGES)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr
    refused = "nobody is logged in by this session"
    assert json.loads(run.stdout) == dict.fromkeys(CHANGES, refused)

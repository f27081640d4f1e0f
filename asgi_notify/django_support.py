"""What is done for Django where it is loaded and configured; nothing here ever imports it."""

import os
import sys
from typing import Any

__all__ = ["allowed_hosts", "close_old_connections"]

# Django's own for an empty ALLOWED_HOSTS with DEBUG on; its subdomains of localhost too.
_DEBUG_HOSTS = (".localhost", "127.0.0.1", "[::1]")


def close_old_connections() -> None:
    """Close the database connections of this thread that have broken or are over their age.

    Django does so around each request, so that a thread neither keeps a connection
    for ever nor goes on with one that the database has cut.

    Source: Django, "Databases", section "Persistent connections".
    """
    # Where its database layer was not loaded, there are no connections.
    close = getattr(sys.modules.get("django.db"), "close_old_connections", None)
    if close is not None and _settings().configured:
        close()


def allowed_hosts() -> list[str] | None:
    """The hosts that Django serves, or None where it is not there, or not configured.

    Source: Django, "Settings", section "ALLOWED_HOSTS".
    """
    settings = _settings()
    # Settings named in the environment are loaded when they are first asked for.
    if settings is None or not (settings.configured or "DJANGO_SETTINGS_MODULE" in os.environ):
        return None
    hosts = list(settings.ALLOWED_HOSTS)
    return list(_DEBUG_HOSTS) if settings.DEBUG and not hosts else hosts


def _settings() -> Any:
    return getattr(sys.modules.get("django.conf"), "settings", None)

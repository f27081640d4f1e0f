"""SQLite behind Django, asked whether a connection still works in the way PostgreSQL is."""

import sqlite3

from django.db.backends.sqlite3 import base

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]  # Django ships no types
    """Django's own says of every connection that it works, since a file hangs up on nobody."""

    def is_usable(self) -> bool:
        """Whether the connection still works. Source: Django's backend for PostgreSQL."""
        try:
            self.connection.execute("SELECT 1")
        except sqlite3.Error:
            return False
        return True

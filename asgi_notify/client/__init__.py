"""A client of the notification protocol, which stays connected and misses nothing.

::

    async with connect("ws://127.0.0.1:8000/notifications/") as client:
        async for notification in client.subscribe("user_42"):
            print(notification.data)

Runs on asyncio and on trio. Needs the ``client`` extra.
"""

from .backoff import Backoff
from .client import Client, OnStatus, connect
from .errors import ServerUnavailable, WrongServer
from .items import Gap, Notification, Status
from .publisher import Published, Publisher
from .subscription import OnGap, Subscription

__all__ = [
    "Backoff",
    "Client",
    "Gap",
    "Notification",
    "OnGap",
    "OnStatus",
    "Published",
    "Publisher",
    "ServerUnavailable",
    "Status",
    "Subscription",
    "WrongServer",
    "connect",
]

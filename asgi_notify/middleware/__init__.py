"""What stands between a server and an application: each wraps an app and is one itself."""

from .host import HostValidator
from .origin import AllowedHostsOriginValidator, OriginValidator, SameOriginValidator

__all__ = [
    "AllowedHostsOriginValidator",
    "HostValidator",
    "OriginValidator",
    "SameOriginValidator",
]

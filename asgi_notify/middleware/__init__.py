"""What stands between a server and an application: each wraps an app and is one itself."""

from .origin import AllowedHostsOriginValidator, OriginValidator, SameOriginValidator

__all__ = ["AllowedHostsOriginValidator", "OriginValidator", "SameOriginValidator"]

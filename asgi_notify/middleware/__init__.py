"""What stands between a server and an application: each wraps an app and is one itself."""

from .authentication import Authentication
from .cors import CrossOrigin
from .host import HostValidator
from .limits import Limited
from .observed import Observed
from .origin import AllowedHostsOriginValidator, OriginValidator, SameOriginValidator
from .proxies import TrustedProxies

__all__ = [
    "AllowedHostsOriginValidator",
    "Authentication",
    "CrossOrigin",
    "HostValidator",
    "Limited",
    "Observed",
    "OriginValidator",
    "SameOriginValidator",
    "TrustedProxies",
]

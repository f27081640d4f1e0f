"""Django Channels on channels_redis, with lists in Redis; see also `channels`."""

from .channels_on_redis import add_others, app, publish, use

__all__ = ["add_others", "app", "publish"]

use("channels_redis.core.RedisChannelLayer", capacity=100_000)  # messages; 100, and it drops

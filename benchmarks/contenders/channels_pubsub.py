"""Django Channels on channels_redis, with Redis' publish and subscribe; see also `channels`."""

from .channels_on_redis import add_others, app, publish, use

__all__ = ["add_others", "app", "publish"]

use("channels_redis.pubsub.RedisPubSubChannelLayer")

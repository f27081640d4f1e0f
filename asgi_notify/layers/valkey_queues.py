"""What waits for workers, on a Valkey or Redis server.

A channel has three keys::

    row       list         the ids of what waits, the oldest first
    messages  hash         id -> payload, of what waits and of what was handed out
    held      sorted set   id -> when it is given to another reader, of what was handed out

An id is ``<when it came>:<when it expires>:<how long it may wait>:<random>:<returns>:<deaths>``.
Ids are in the order of coming, so that those that are given back together keep their order.
One that comes back has another id, so that a reader that was too slow settles nothing of the
next one's. A return is a death unless the reader itself gave the message back.

Readers that find nothing wait for a word on a pub/sub channel, and look again. A blocking
read of the server's own would need a connection for each reader, which nothing else could
use. All waiting processes look when one message comes: that is right for tens of workers
on a channel, and costs a script each.
"""

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from secrets import token_hex
from typing import Any

import anyio

from .engine import Held
from .keys import Keys
from .valkey_link import Link
from .valkey_scripts import CLOCK, Script, milliseconds
from .valkey_uplink import ValkeyUplink

__all__ = ["ValkeyQueues"]

IDLE = 100  # channels without a reader whose subscription is kept, as one may come back
LOOK = 1.0  # seconds; a reader looks that often even when no word comes, as one may be lost

_QUEUE = (
    CLOCK
    + """
local row, messages, held = KEYS[1], KEYS[2], KEYS[3]

local function parts(id)
  local came, due, span, word, times, deaths =
    string.match(id, '(%d+):(%d+):(%d+):(%w+):(%d+):(%d+)')
  return tonumber(due), tonumber(span), came, word, tonumber(times), tonumber(deaths)
end

-- Let no key expire before this many milliseconds.
local function keep(span)
  for _, key in ipairs(KEYS) do
    local left = redis.call('PTTL', key)
    if left ~= -2 and left < span then redis.call('PEXPIRE', key, string.format('%.0f', span)) end
  end
end

-- Let go of what has waited too long, from the oldest on.
local function expire(now)
  local id = redis.call('LINDEX', row, 0)
  while id and parts(id) <= now do
    redis.call('LPOP', row)
    redis.call('HDEL', messages, id)
    id = redis.call('LINDEX', row, 0)
  end
end
"""
)

PUSH = Script(
    "push",
    _QUEUE
    + """
-- ARGV  payload, random word, "<capacity> <expiry> <verb> <time>"
local capacity, span, verb, given = string.match(ARGV[3], '(%d+) (%d+) (%a+) (%d*)')
local now = clock(given)
expire(now)
if redis.call('LLEN', row) >= tonumber(capacity) then return 0 end
local came = redis.call('TIME')
local id = string.format('%s%06d:%.0f:%s:%s:0:0', came[1], came[2], now + span, span, ARGV[2])
redis.call('HSET', messages, id, ARGV[1])
redis.call('RPUSH', row, id)
keep(tonumber(span) + 1000)
redis.call(verb, row, '')
return 1
""",
)

PULL = Script(
    "pull",
    _QUEUE
    + """
-- ARGV  hold in milliseconds, time
-- Returns id and payload; or after how many milliseconds one that is held comes back, -1: none.
local hold, now = tonumber(ARGV[1]), clock(ARGV[2])
local back = redis.call('ZRANGEBYSCORE', held, '-inf', now, 'WITHSCORES')
local returned = {}  -- by id, as the scores do not keep the order of coming
for i = 1, #back, 2 do returned[#returned + 1] = {back[i], back[i + 1]} end
table.sort(returned, function(one, other) return one[1] > other[1] end)
for _, one in ipairs(returned) do  -- each to the front, so the oldest comes to stand first
  local due, span, came, word, times, deaths = parts(one[1])
  local payload = redis.call('HGET', messages, one[1])
  redis.call('ZREM', held, one[1])
  redis.call('HDEL', messages, one[1])
  if one[2] ~= '0' then deaths = deaths + 1 end
  if payload then  -- its time to wait begins anew: it was handed out before it was over
    local id = string.format('%s:%.0f:%.0f:%s:%d:%d', came, now + span, span, word,
                             times + 1, deaths)
    redis.call('HSET', messages, id, payload)
    redis.call('LPUSH', row, id)
  end
end
while true do
  local id = redis.call('LPOP', row)
  if not id then break end
  local due, span = parts(id)
  local payload = redis.call('HGET', messages, id)
  if payload and due > now then
    redis.call('ZADD', held, now + hold, id)
    keep(hold + span + 1000)
    return {id, payload}
  end
  redis.call('HDEL', messages, id)
end
local next_back = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')[2]
return {next_back and tonumber(next_back) - now or -1}
""",
)

EXTEND = Script(
    "extend",
    _QUEUE
    + """
-- ARGV  id, hold in milliseconds, time
local hold, now = tonumber(ARGV[2]), clock(ARGV[3])
if redis.call('ZADD', held, 'XX', 'CH', now + hold, ARGV[1]) == 1 then
  local due, span = parts(ARGV[1])
  keep(hold + span + 1000)
end
""",
)

SETTLE = Script(
    "settle",
    """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then redis.call('HDEL', KEYS[2], ARGV[1]) end
""",
)

RELEASE = Script(
    "release",
    """
-- KEYS  held, row    ARGV  id, verb
-- It is due at once, so that whoever looks next finds it.
if redis.call('ZADD', KEYS[1], 'XX', 'CH', 0, ARGV[1]) == 1 then
  redis.call(ARGV[2], KEYS[2], '')
end
""",
)


class ValkeyQueues:
    """The channels with a fixed name; what each method promises stands at `Engine`."""

    def __init__(self, keys: Keys, uplink: ValkeyUplink) -> None:
        self._keys = keys
        self._uplink = uplink
        self.open()

    def open(self) -> None:
        """Begin anew, with a link that has no subscriptions yet."""
        self._readers: Counter[str] = Counter()  # by channel: that wait in `pull`
        self._words: dict[str, anyio.Event] = {}  # by channel: set when a message may have come
        self._heard: OrderedDict[str, None] = OrderedDict()  # subscribed to; the last used last

    async def push(
        self, channel: str, payload: bytes, capacity: int, expiry: float, now: str
    ) -> bool:
        """See `Engine.push`."""
        keys, word = self._keys.queue(channel), token_hex(8)

        def run(link: Link) -> Awaitable[int]:
            said = f"{capacity} {milliseconds(expiry)} {link.verb} {now}"
            return link.run(PUSH, keys, [payload, word, said])

        return bool(await self._uplink.call(run))

    async def pull(self, channel: str, hold: float, now: Callable[[], str]) -> Held:
        """See `Engine.pull`."""
        keys, span = self._keys.queue(channel), str(milliseconds(hold))
        self._readers[channel] += 1
        try:
            while True:
                # Before asking, so that a word in between is not lost.
                word = self._words.setdefault(channel, anyio.Event())
                ask = partial(_pull, keys, [span, now()])
                # To be cancelled on the way would be to take a message and not to know it.
                with anyio.CancelScope(shield=True):
                    answer = await self._uplink.call(ask)
                if len(answer) == 2:
                    token, payload = answer
                    return Held(token, payload, int(token.rpartition(b":")[2]) + 1)
                if channel not in self._heard:
                    await self._uplink.subscribe({keys[0]: partial(self._wake, channel)})
                    self._heard[channel] = None
                    continue  # what came before the subscription
                back = answer[0] / 1000
                with anyio.move_on_after(LOOK if back < 0 else min(back, LOOK)):
                    await word.wait()
        finally:
            self._readers[channel] -= 1
            self._rest(channel)

    async def extend(self, channel: str, token: object, hold: float, now: str) -> None:
        """See `Engine.extend`."""
        assert isinstance(token, bytes)
        keys = self._keys.queue(channel)
        args: list[str | bytes] = [token, str(milliseconds(hold)), now]
        await self._uplink.call(lambda link: link.run(EXTEND, keys, args))

    async def settle(self, channel: str, token: object) -> None:
        """See `Engine.settle`."""
        assert isinstance(token, bytes)
        _, messages, held = self._keys.queue(channel)
        await self._uplink.call(lambda link: link.run(SETTLE, [held, messages], [token]))

    async def release(self, channel: str, token: object) -> None:
        """See `Engine.release`."""
        assert isinstance(token, bytes)
        row, _, held = self._keys.queue(channel)
        await self._uplink.call(lambda link: link.run(RELEASE, [held, row], [token, link.verb]))

    def _wake(self, channel: str, _: bytes) -> None:
        word = self._words.pop(channel, None)
        if word is not None:
            word.set()

    def _rest(self, channel: str) -> None:
        """Most readers come back at once; those that did not for the longest time are let go."""
        if self._readers[channel]:
            return
        del self._readers[channel]
        self._words.pop(channel, None)
        if channel in self._heard:
            self._heard.move_to_end(channel)
        if len(self._heard) <= IDLE:
            return
        idle = [name for name in self._heard if name not in self._readers]
        for name in idle[:-IDLE]:
            del self._heard[name]
            self._uplink.unsubscribe(self._keys.queue(name)[:1])


async def _pull(keys: list[str], args: list[str], link: Link) -> list[Any]:
    answer: list[Any] = await link.run(PULL, keys, args)
    return answer

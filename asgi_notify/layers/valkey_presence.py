"""Who is present in a group, counted over all processes, on a Valkey or Redis server.

A group has four keys::

    leases    sorted set   channel -> when its lease runs out
    channels  hash         channel -> its number in the order of entering, member and info
    members   hash         member  -> how many channels it has; or, while it leaves, the
                                      info of its last one, after an "L"
    going     sorted set   member  -> when it is gone, if none of its channels comes back

A lease that ran out changes nothing by itself. `gone` finds it, and counts the channel as
one that left at that moment; until then it only is not present any more. All keys expire
some time after the last lease, so that a group whose processes all died leaves nothing.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeAlias

from .engine import Gone, Lease
from .keys import Keys
from .tasks import at_a_time
from .valkey_scripts import CLOCK, Script, milliseconds

__all__ = ["Run", "ValkeyPresence"]

Run: TypeAlias = Callable[[Script, Sequence[str], Sequence[str | bytes]], Awaitable[Any]]

LEASES = 500  # renewed in one script; the server serves nobody else meanwhile
LINGER = 60_000  # milliseconds that keys outlive the last lease, for the leaves to be told

_GROUP = (
    CLOCK
    + f"local LINGER, SOME = {LINGER}, {LEASES}"
    + """
local leases, channels, members, going = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function read(record)
  local number, length, rest = string.match(record, '^(%d+) (%d+) (.*)$')
  return number, string.sub(rest, 1, length), string.sub(rest, length + 1)
end

-- Let no key expire before this many milliseconds.
local function keep(span)
  for _, key in ipairs(KEYS) do
    local left = redis.call('PTTL', key)
    if left ~= -2 and left < span then redis.call('PEXPIRE', key, span) end
  end
end

-- Take a channel out; its member is gone at a time unless it has another one.
local function leave(channel, gone_at)
  local record = redis.call('HGET', channels, channel)
  if not record then return end
  local _, member, info = read(record)
  redis.call('HDEL', channels, channel)
  redis.call('ZREM', leases, channel)
  local rest = tonumber(redis.call('HGET', members, member) or 1) - 1
  if rest > 0 then
    redis.call('HSET', members, member, rest)
  else
    redis.call('HSET', members, member, 'L' .. info)
    redis.call('ZADD', going, gone_at, member)
  end
  if redis.call('ZCARD', leases) == 0 then redis.call('DEL', channels) end
end
"""
)

ENTER = Script(
    "enter",
    _GROUP
    + """
-- ARGV  channel, member, info, lease in milliseconds, time
local channel, member, info, span = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = clock(ARGV[5])
local record, number, before = redis.call('HGET', channels, channel), nil, nil
local is_new = 0
if record then number, before = read(record) end
if before ~= member then
  -- The first write is one that a server without memory refuses, so that it changes nothing.
  number = redis.call('HINCRBY', channels, '', 1)  -- no channel has an empty name
  if record then leave(channel, now) end
  local count = redis.call('HGET', members, member)
  is_new = count and 0 or 1
  redis.call('HSET', members, member, (tonumber(count or 0) or 0) + 1)
  redis.call('ZREM', going, member)
end
redis.call('HSET', channels, channel, string.format('%.0f %d ', number, #member) .. member .. info)
redis.call('ZADD', leases, now + span, channel)
keep(span + LINGER)
return is_new
""",
)

RENEW = Script(
    "renew",
    _GROUP
    + """
-- ARGV  lease in milliseconds, time, channels
-- Returns those that are not there any more.
local span, lost = tonumber(ARGV[1]), {}
local due = clock(ARGV[2]) + span
for i = 3, #ARGV do
  if redis.call('HEXISTS', channels, ARGV[i]) == 1 then
    redis.call('ZADD', leases, due, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
keep(span + LINGER)
return lost
""",
)

LEAVE = Script(
    "leave",
    _GROUP
    + """
-- ARGV  channel, grace in milliseconds, time
local now, grace = clock(ARGV[3]), tonumber(ARGV[2])
local due = tonumber(redis.call('ZSCORE', leases, ARGV[1]) or now)
leave(ARGV[1], math.min(due, now) + grace)
keep(grace + LINGER)
""",
)

GONE = Script(
    "gone",
    _GROUP
    + """
-- ARGV  grace in milliseconds, time
-- Returns member and info of some who are gone, and first whether there may be more.
local now, grace = clock(ARGV[2]), tonumber(ARGV[1])
local out = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'WITHSCORES', 'LIMIT', 0, SOME)
for i = 1, #out, 2 do
  leave(out[i], tonumber(out[i + 1]) + grace)
end
local left = redis.call('ZRANGEBYSCORE', going, '-inf', now, 'LIMIT', 0, SOME)
local answer = {(#out == SOME * 2 or #left == SOME) and 1 or 0}
for _, member in ipairs(left) do
  answer[#answer + 1] = member
  answer[#answer + 1] = string.sub(redis.call('HGET', members, member) or 'L', 2)
  redis.call('HDEL', members, member)
  redis.call('ZREM', going, member)
end
if #out > 0 then keep(grace + LINGER) end
return answer
""",
)

PRESENT = Script(
    "present",
    _GROUP
    + """
-- ARGV  time
-- Returns channel, number, member and info of each.
local answer = {}
local now = string.format('(%.0f', clock(ARGV[1]))
local here = redis.call('ZRANGEBYSCORE', leases, now, '+inf')
for _, channel in ipairs(here) do
  local record = redis.call('HGET', channels, channel)
  if record then
    local number, member, info = read(record)
    local n = #answer
    answer[n + 1], answer[n + 2] = channel, tonumber(number)
    answer[n + 3], answer[n + 4] = member, info
  end
end
return answer
""",
)

COUNT = Script("count", "return redis.call('HLEN', KEYS[1])")


class ValkeyPresence:
    """The presence of all groups; what each method promises stands at `Engine`.

    Args:
        keys: how groups are spelled.
        run: runs a script on the server.
    """

    def __init__(self, keys: Keys, run: Run) -> None:
        self._keys = keys
        self._run = run

    async def enter(self, lease: Lease, seconds: float, now: str) -> bool:
        """See `Engine.enter`."""
        span = str(milliseconds(seconds))
        args: list[str | bytes] = [lease.channel, lease.member, _written(lease.info), span, now]
        return bool(await self._run(ENTER, self._keys.presence(lease.group), args))

    async def renew(self, leases: Collection[Lease], seconds: float, now: str) -> list[Lease]:
        """See `Engine.renew`."""
        back: list[Lease] = []
        groups: defaultdict[str, dict[str, Lease]] = defaultdict(dict)
        for lease in leases:
            groups[lease.group][lease.channel] = lease
        span = str(milliseconds(seconds))

        async def ask(some: tuple[str, list[str]]) -> None:
            group, channels = some
            # Most are there still, so their members and infos stay at home.
            lost = await self._run(RENEW, self._keys.presence(group), [span, now, *channels])
            for channel in lost:
                lease = groups[group][channel.decode()]
                if await self.enter(lease, seconds, now):
                    back.append(lease)

        await at_a_time(
            ask,
            (
                (group, list(channels)[start : start + LEASES])
                for group, channels in groups.items()
                for start in range(0, len(channels), LEASES)
            ),
        )
        return back

    async def leave(self, group: str, channel: str, grace: float, now: str) -> None:
        """See `Engine.leave`."""
        args = [channel, str(milliseconds(grace)), now]
        await self._run(LEAVE, self._keys.presence(group), args)

    async def gone(self, groups: Collection[str], grace: float, now: str) -> list[Gone]:
        """See `Engine.gone`."""
        found: list[Gone] = []

        async def ask(group: str) -> None:
            is_more = True
            while is_more:
                keys = self._keys.presence(group)
                is_more, *rest = await self._run(GONE, keys, [str(milliseconds(grace)), now])
                found.extend(
                    Gone(group, member.decode(), _read(info))
                    for member, info in zip(rest[::2], rest[1::2], strict=True)
                )

        await at_a_time(ask, groups)
        return found

    async def present(self, group: str, now: str) -> list[Lease]:
        """See `Engine.present`."""
        rows = await self._run(PRESENT, self._keys.presence(group), [now])
        order = sorted(zip(rows[1::4], rows[::4], rows[2::4], rows[3::4], strict=True))
        return [
            Lease(group, channel.decode(), member.decode(), _read(info))
            for _, channel, member, info in order
        ]

    async def count(self, group: str) -> int:
        """See `Engine.count`."""
        _, _, members, _ = self._keys.presence(group)
        return int(await self._run(COUNT, [members], []))


def _written(info: bytes | None) -> bytes:
    """An info as it stands in a record: nothing, or an "i" and what there is."""
    return b"" if info is None else b"i" + info


def _read(written: bytes) -> bytes | None:
    return written[1:] if written else None

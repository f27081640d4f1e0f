"""Names that are remembered for a while, on a Valkey or Redis server.

A mark is one key, whose value says until when it counts, in milliseconds, and which moment it
stands for, in seconds since 1970. The first is said beside the key's own time to live, so that
tests may have a clock of their own.
"""

from math import isinf

from .valkey_scripts import CLOCK, Script

__all__ = ["MARK", "MARKED", "moment"]

NEVER = "1e300"  # seconds since 1970; a number that each version of Lua can read


def moment(at: float) -> str:
    """A moment as the scripts take it."""
    return repr(float(at)) if not isinf(at) else NEVER if at > 0 else f"-{NEVER}"


MARK = Script(
    "mark",
    CLOCK
    + """
-- KEYS  the mark
-- ARGV  "<milliseconds> <time>", the moment that it stands for
-- Returns 1 if the name was not marked yet.
local span, given = string.match(ARGV[1], '(%d+) (%d*)')
local now, at = clock(given), ARGV[2]
local due, is_new = now + tonumber(span), 1
local known = redis.call('GET', KEYS[1])
if known then
  local ends, latest = string.match(known, '(%d+) (%S+)')
  if tonumber(ends) > now then
    is_new, due = 0, math.max(due, tonumber(ends))
    if tonumber(latest) > tonumber(at) then at = latest end
  end
end
redis.call('SET', KEYS[1], string.format('%.0f %s', due, at),
           'PX', string.format('%.0f', due - now))
return is_new
""",
)

MARKED = Script(
    "marked",
    CLOCK
    + """
-- KEYS  marks
-- ARGV  time, the earliest moment that counts
-- Returns 1 if one of them is remembered.
local now, since = clock(ARGV[1]), tonumber(ARGV[2])
for _, known in ipairs(redis.call('MGET', unpack(KEYS))) do
  if known then
    local ends, at = string.match(known, '(%d+) (%S+)')
    if tonumber(ends) > now and tonumber(at) >= since then return 1 end
  end
end
return 0
""",
)

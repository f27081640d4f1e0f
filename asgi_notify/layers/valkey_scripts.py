"""What runs on the server, whole and alone: the scripts of topics and their histories.

A script runs from its beginning to its end with nothing in between, so the order of a
history, the order of its positions and the order of what is published are one.

A topic that is kept has two keys. Its *state* is a hash, and says where it stands::

    e  the epoch                      s  the offset of its newest message
    l  the life of the server         b  the offset at which the epoch began (0 if missing)
    g  the generation it began in     r  what its first epoch came from
    d  when its oldest message is to be let go
    d  when the oldest message is to be let go

Its *stream* holds the messages. An entry's id is ``<offset>-<time>``, so that a range of
offsets is a range of ids, and the time, in milliseconds, costs no field of its own.

Epochs, and why a position is never taken for one of a lost history
-------------------------------------------------------------------
Who joins a topic that nothing was sent to gets a position too: offset 0 of its *first
epoch*. The server does not remember that it was asked. So the first epoch is computed
from things that change whenever something may have been lost:

- the *root key*, a random word that many topics share: gone with ``FLUSHALL``;
- the *life* of the server, from the name that it takes on at each start (``run_id``):
  another one after a restart or on a replica that was promoted, where the last writes may
  be missing;
- how many keys the server has *evicted* for want of memory;
- the *generation*: the hour on the server's clock.

The first message to a topic makes its state, with the first epoch of that moment. The
state is kept `RECENT` + 1 generations longer than the messages. A position at offset 0
is resumed honestly if its epoch is a first epoch of the last `RECENT` generations:

- without state: if something had been sent since the position was handed out, its state
  would be here still: the position is younger than the state's time to live, no key was
  evicted, no server started, and no root was lost since. So nothing was sent.
- with a state that began in generation ``g`` from root ``r``: the position's epoch is one
  of ``r`` in the generations up to ``g``. A state before this one would have had to expire
  between the position and this state's beginning, and that is too short, as above. So all
  that was sent since is what this state counts from 1.

All other positions must be of the state's own epoch, and not beyond its top. What is
lost, and what then happens:

- the state (expired, evicted, flushed): the next message begins a new epoch at offset 1,
  and deletes what is left of the stream; until then nothing of it is handed out;
- the stream, but not the state: the offsets go on, and the stream begins behind a hole;
- the last writes before a restart: the life differs, so the state gets a new epoch and
  goes on counting. What is kept stays readable, but no position from before is whole.

What cannot be noticed: a single key that somebody deletes by hand, and ``CONFIG
RESETSTAT`` between an eviction and the next question. Where an ACL forbids ``INFO``, lives
and evictions cannot be distinguished either.
"""

from typing import NamedTuple

__all__ = ["CLOCK", "PUBLISH", "READ", "TOPS", "Script", "milliseconds"]

FOREVER = 1000 * 365 * 24 * 3600.0  # seconds; what never expires expires then
GENERATION = 3_600_000  # milliseconds
RECENT = 6  # generations: a position of a topic never sent to can be resumed for 6 hours


class Script(NamedTuple):
    """A script, and what to call it in an error."""

    name: str
    code: str


def milliseconds(seconds: float) -> int:
    """A span of time as the scripts take it: a whole number, and never nothing of something."""
    return max(1, round(min(seconds, FOREVER) * 1000)) if seconds > 0 else 0


CLOCK = """
-- The time in milliseconds: the caller's where it gives one, as tests do, else the server's.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

_TOPICS = (
    CLOCK
    + f"local GENERATION, RECENT = {GENERATION}, {RECENT}"
    + """
local LAST = 9007199254740990  -- the last offset: JavaScript counts to one more

-- One field of what the server says of itself, or '' where it may not be asked.
local known = {}
local function said(section, field)
  if not known[section] then
    local info = redis.pcall('INFO', section)
    known[section] = type(info) == 'string' and string.match(info, field .. ':(%w+)') or ''
  end
  return known[section]
end

-- What the first epochs come from. `root` is a key, `word` a random text for a new one.
local function origin(root, word, life)
  local kept = redis.call('GET', root)
  if not kept then
    kept = word
    redis.call('SET', root, kept)
  end
  return kept .. '.' .. life .. '.' .. said('stats', 'evicted_keys')
end

-- 8 letters and digits, always the same for the same text: 20 bits of its hash for each.
local function epoch_of(text)
  local hash, letters = redis.sha1hex(text), {}
  for i = 1, 8 do
    local n = tonumber(string.sub(hash, i * 5 - 4, i * 5), 16) % 36
    letters[i] = string.char(n < 10 and 48 + n or 87 + n)
  end
  return table.concat(letters)
end

local function first_epoch(from, topic, generation)
  return epoch_of(from .. '.' .. generation .. '.' .. topic)
end

-- Where a topic stands. `topic` is the key of its state, and says its name.
local function stand(topic, root, word, now, life)
  local state = redis.call('HMGET', topic, 'e', 's', 'l', 'b', 'g', 'r', 'd')
  local offset = tonumber(state[2] or 0)
  if not state[1] then
    local from, generation = origin(root, word, life), math.floor(now / GENERATION)
    return {epoch = first_epoch(from, topic, generation), offset = 0, began = 0,
            from = from, generation = generation, is_new = true}
  end
  if state[3] == life then
    return {epoch = state[1], offset = offset, began = tonumber(state[4] or 0),
            from = state[6], generation = tonumber(state[5] or 0), due = tonumber(state[7])}
  end
  -- Another start of the server, or another server: who knows whether this is the newest.
  local epoch = epoch_of(word .. '.' .. topic)
  redis.call('HSET', topic, 'e', epoch, 'l', life, 'b', state[2], 'r', '')
  return {epoch = epoch, offset = offset, began = offset, from = '', generation = 0, due = 0}
end

-- Delete the entries whose time is over, which are the oldest; return when the next one is due.
local function let_go(stream, now, ttl)
  local step = 1
  while true do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', step)
    for _, entry in ipairs(oldest) do
      local due = tonumber(string.match(entry[1], '-(%d+)')) + ttl
      if due > now then
        redis.call('XTRIM', stream, 'MINID', entry[1])
        return due
      end
    end
    if #oldest < step then
      redis.call('DEL', stream)
      return now + ttl
    end
    local last = tonumber(string.match(oldest[#oldest][1], '(%d+)-'))
    redis.call('XTRIM', stream, 'MINID', string.format('%.0f', last + 1))
    step = math.min(step * 2, 64)
  end
end
"""
)

PUBLISH = Script(
    "publish",
    _TOPICS
    + """
-- KEYS  the topic's state (and pub/sub channel), its stream, its root, [the publication]
-- ARGV  payload, random word, "<size> <ttl> <window> <verb> <time>" (milliseconds);
--       size 0: nothing is kept
-- Returns receivers, epoch, offset; an epoch of '' where nothing is kept.
local topic, stream, root, publication = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local size, ttl, window, verb, given = string.match(ARGV[3], '(%d+) (%d+) (%d+) (%a+) (%d*)')
local now = clock(given)
if publication then
  local answer = redis.call('GET', publication)
  if answer then
    local due, receivers, epoch, offset = string.match(answer, '(%d+) (%d+) (%w*) (%d+)')
    if tonumber(due) > now then return {tonumber(receivers), epoch, tonumber(offset)} end
  end
end
local epoch, offset, frame = '', 0, '\\0' .. ARGV[1]
if size ~= '0' then
  ttl = tonumber(ttl)
  local life = string.sub(said('server', 'run_id'), 1, 8)
  local at = stand(topic, root, ARGV[2], now, life)
  if at.offset >= LAST then
    at = {epoch = epoch_of(ARGV[2]), offset = 0, from = '', generation = 0, is_new = true}
  end
  epoch, offset = at.epoch, at.offset + 1
  if at.is_new then
    -- The first write is one that a server without memory refuses, so that it changes nothing.
    redis.call('HSET', topic, 'e', epoch, 's', offset, 'l', life,
               'g', at.generation, 'r', at.from, 'd', string.format('%.0f', now + ttl))
    redis.call('HDEL', topic, 'b')
    redis.call('DEL', stream)
  else
    redis.call('HSET', topic, 's', string.format('%.0f', offset))
    if now >= at.due then
      redis.call('HSET', topic, 'd', string.format('%.0f', let_go(stream, now, ttl)))
    end
  end
  redis.call('PEXPIRE', topic, string.format('%.0f', ttl + (RECENT + 1) * GENERATION))
  redis.call('XADD', stream, 'MAXLEN', size, string.format('%.0f-%.0f', offset, now),
             'p', ARGV[1])
  redis.call('PEXPIRE', stream, ttl)
  frame = '\\1' .. epoch .. struct.pack('>I8', offset) .. ARGV[1]
end
local receivers = redis.call(verb, topic, frame)
if publication then
  redis.call('SET', publication,
             string.format('%.0f %d %s %.0f', now + tonumber(window), receivers, epoch, offset),
             'PX', window)
end
return {receivers, epoch, offset}
""",
)

READ = Script(
    "read",
    _TOPICS
    + """
-- KEYS  the topic's state, its stream, its root
-- ARGV  random word, "<ttl> <limit> <time>" (limit 0: all), epoch ('': all of it), offset
-- Returns epoch, offset, whether it is whole, then offset and payload of each entry.
local topic, stream, root = KEYS[1], KEYS[2], KEYS[3]
local ttl, limit, given = string.match(ARGV[2], '(%d+) (%d+) (%d*)')
local now = clock(given)
local at = stand(topic, root, ARGV[1], now, string.sub(said('server', 'run_id'), 1, 8))

-- Whether an epoch was a first epoch of this topic, in a time of which nothing was lost.
local function was_first(epoch)
  if at.from == '' then return false end
  for generation = at.generation, at.generation - RECENT, -1 do
    if epoch == first_epoch(at.from, topic, generation) then return true end
  end
  return false
end

local after, is_whole = 0, true
if ARGV[3] ~= '' then
  after = tonumber(ARGV[4])
  if ARGV[3] == at.epoch then
    is_whole = after <= at.offset
  elseif after ~= 0 or not was_first(ARGV[3]) then
    after, is_whole = at.began, false  -- what is left of the epoch that there is
  end
end
local answer = {at.epoch, at.offset, 1}
local nextone = after + 1
if not at.is_new and after < at.offset then
  let_go(stream, now, tonumber(ttl))
  local range = {'XRANGE', stream, string.format('%.0f', nextone), '+'}
  if limit ~= '0' then
    range[5], range[6] = 'COUNT', limit
  end
  for _, entry in ipairs(redis.call(unpack(range))) do
    local offset, time = string.match(entry[1], '(%d+)-(%d+)')
    if tonumber(time) > now - tonumber(ttl) then
      answer[#answer + 1] = tonumber(offset)
      answer[#answer + 1] = entry[2][2]
    else  -- the clock was set back once: an old one stands behind a newer one
      answer = {at.epoch, at.offset, 1}
    end
  end
  is_whole = is_whole and answer[4] == nextone
end
-- All of it is whole whatever has expired: nothing was asked for that could be missing.
answer[3] = (is_whole or ARGV[3] == '') and 1 or 0
return answer
""",
)

TOPS = Script(
    "tops",
    _TOPICS
    + """
-- KEYS  the state and the root of each topic
-- ARGV  random word, time
-- Returns epoch and offset of each.
local now, life, answer = clock(ARGV[2]), string.sub(said('server', 'run_id'), 1, 8), {}
for i = 1, #KEYS, 2 do
  local at = stand(KEYS[i], KEYS[i + 1], ARGV[1], now, life)
  answer[i], answer[i + 1] = at.epoch, at.offset
end
return answer
""",
)

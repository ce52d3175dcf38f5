"""How scripts are run in Redis. Each is carried out as a whole, or not at all, before anything else.

What scripts share is here: the names of the keys, and what may be done only once.
"""

import hashlib
import itertools
import json
import os
import threading
import uuid
from collections.abc import Callable
from typing import Any

from redis.exceptions import NoScriptError

# Where redis-py does not get an answer it asks again: an answer is remembered for so long.
ANSWER_SECONDS = 60

# The keys that are not declared are in the slot of the first one: that is checked where there are several slots.
PRELUDE = """
local jobs, times = KEYS[1], KEYS[2]
local function key(name) return jobs .. '.' .. name end
local running, owners, open, parts = key('running'), key('owners'), key('open'), key('parts')
local ready, waiting, copies = key('ready'), key('waiting'), key('copies')
local runs, history, counts, limits = key('runs'), key('history'), key('counts'), key('limits')
local nodes = key('nodes')
local writer, channel, number, own_listeners = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local given = cjson.decode(ARGV[5])
local call = redis.call

local function blob(index) return ARGV[5 + index] end

-- Many values are sent as one, since clients are slow to put them together: gives one after the other.
local function cut(joined)
  local position = 0
  return function(size)
    position = position + size
    return string.sub(joined, position - size + 1, position)
  end
end

-- Not being allowed to tell others is no reason not to work. Hearing oneself takes a client longer than all the rest.
local function tell()
  local found = redis.pcall('PUBSUB', 'NUMSUB', channel)
  if found[2] ~= own_listeners then redis.pcall('PUBLISH', channel, writer) end
end

local function set_time(id, time)
  if time then call('ZADD', times, time, id) else call('ZREM', times, id) end
end

-- Many values with one command. More than so many do not fit on the stack.
local most = 4000

-- Lua makes one text of many at once up to this size, beyond that it makes longer and longer ones.
local piece_size = 8192

-- As few values as possible, since clients are slow to take them apart: as JSON what is to be known of each, in lists
-- of equal length, since a table for each would be most of the work; and their bytes, many as one.
local function pack_up(lists, bytes)
  local pieces, first, size = {}, 1, 0
  for index, value in ipairs(bytes) do
    if size + #value > piece_size then
      pieces[#pieces + 1] = table.concat(bytes, '', first, index - 1)
      first, size = index, 0
    end
    size = size + #value
  end
  pieces[#pieces + 1] = table.concat(bytes, '', first)
  return cjson.encode(lists), pieces
end

local function read_many(command, set, names)
  local values = {}
  for first = 1, #names, most do
    local last = math.min(first + most - 1, #names)
    local found = call(command, set, unpack(names, first, last))
    for index = 1, last - first + 1 do values[first + index - 1] = found[index] end
  end
  return values
end

-- What is written to several keys is collected, and written in the end.
local batches = {}

local function batch(command, set)
  local values = {}
  batches[#batches + 1] = {command, set, values}
  return values
end

local function put(values, first, second)
  values[#values + 1] = first
  if second then values[#values + 1] = second end
end

local function flush()
  for _, each in ipairs(batches) do
    local command, set, values = unpack(each)
    for first = 1, #values, most do
      call(command, set, unpack(values, first, math.min(first + most - 1, #values)))
    end
  end
end
"""

ONCE = f"""
local last, answer = string.match(call('GET', KEYS[3]) or '', '^(%d+) (.*)$')
if last and tonumber(last) == number then return answer end
-- A command that was on its way while its sender gave up, and went on with something else.
if last and tonumber(last) > number then return redis.error_reply('STALE command') end
answer = work()
call('SET', KEYS[3], number .. ' ' .. answer, 'EX', {ANSWER_SECONDS})
return answer
"""


class Script:
    """A script.

    :param body: what it does
    :param bare: it does so little that the prelude would take longer: it has only the first two keys, and bytes
    :param once: the body defines a function ``work`` which returns a string. It is called once, however often the
        script is sent: the answer is remembered
    """

    def __init__(self, body: str, *, bare: bool = False, once: bool = False):
        self.bare = bare
        self.once = once
        before, after = "" if bare else PRELUDE, ONCE if once else ""
        self.text = f"{before}{body}{after}".encode()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


class Runner:
    """Runs scripts on the keys of one store.

    :param get_client: returns the client to use
    :param jobs_key: the key of the jobs, which the names of most others begin with
    :param times_key: the key of the run times
    :param count_listeners: returns how often this store itself listens; -1 if the server that a script runs on does not
        know of all who listen
    """

    def __init__(
        self,
        get_client: Callable[[], Any],
        jobs_key: str,
        times_key: str,
        count_listeners: Callable[[], int],
    ):
        self._get_client = get_client
        self._count_listeners = count_listeners
        self._keys = (encode(jobs_key), encode(times_key))
        self.channel = f"{jobs_key}.changes"
        self._id = uuid.uuid4().hex
        self._numbers = itertools.count(1)

    @property
    def writer(self) -> str:
        """Who writes: this store, in this process, which may be a fork."""
        return f"{self._id}.{os.getpid()}"

    def run(self, script: Script, given: object = None, *blobs: bytes) -> Any:
        """Return the answer of a script.

        :param given: what is given to it as JSON
        :param blobs: what is given to it as bytes
        :raises redis.exceptions.RedisError: if the server does not answer, or refuses
        """
        if script.bare:
            arguments: tuple[Any, ...] = (2, *self._keys, *blobs)
        else:
            arguments = self._arguments(script, given, blobs)
        # Not by the methods of these names, which look at their arguments for longer than the server needs.
        execute = self._get_client().execute_command
        try:
            return execute("EVALSHA", script.digest, *arguments)
        except NoScriptError:  # a new server, or somebody has emptied its cache
            return execute("EVAL", script.text, *arguments)

    def _arguments(
        self, script: Script, given: object, blobs: tuple[bytes, ...]
    ) -> tuple[Any, ...]:
        writer = self.writer
        keys: tuple[bytes, ...] = self._keys
        if script.once:
            # Of one thread, an answer is no longer needed when it asks for the next one.
            key = f".answer:{writer}.{threading.get_ident():x}"
            keys = (*keys, keys[0] + key.encode())
        text = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
        return (
            *(len(keys), *keys),
            *(writer, encode(self.channel), next(self._numbers)),
            *(self._count_listeners(), encode(text)),
            *blobs,
        )


def encode(text: str) -> bytes:
    """Return text as it is stored."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """Return stored bytes as text, also if they are not valid UTF-8: ``encode`` gives the same bytes."""
    return data.decode("utf-8", "surrogateescape")

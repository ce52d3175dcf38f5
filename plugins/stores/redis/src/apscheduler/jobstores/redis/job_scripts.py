"""Scripts on jobs: their states in a hash, their run times in a sorted set, as APScheduler 3 keeps them."""

from apscheduler.jobstores.redis.scripts import Script

# Checks that the server answers and that the keys are not used for something else: what each holds.
OPEN = Script(
    "return {redis.call('TYPE', KEYS[1]).ok, redis.call('TYPE', KEYS[2]).ok}", bare=True
)

CLOCK = Script("return redis.call('TIME')", bare=True)

# A job: its run time, a blank, its state.
READ = Script(
    """
local state = redis.call('HGET', KEYS[1], ARGV[1])
return state and (redis.call('ZSCORE', KEYS[2], ARGV[1]) or '') .. ' ' .. state
""",
    bare=True,
)

# Jobs: as JSON their identifiers, run times and the lengths of their states, and the states.
READING = """
local ids, run_times, lengths, states = {}, {}, {}, {}
local found = 0

local function take_apart(page)
  for index = 1, #page, 2 do
    local number = #ids + 1
    ids[number], run_times[number] = page[index], page[index + 1]
  end
end

local function read_states(names)
  for _, state in ipairs(read_many('HMGET', jobs, names)) do
    local number = #states + 1
    if state then
      found = found + 1
      lengths[number], states[number] = #state, state
    else -- a run time without a job
      lengths[number], states[number] = -1, ''
    end
  end
end
"""

# All jobs, earliest first, paused ones last.
LIST = Script(
    READING
    + """
take_apart(call('ZRANGE', times, 0, -1, 'WITHSCORES'))
read_states(ids)
if found < call('HLEN', jobs) then
  local is_active, paused = {}, {}
  for _, id in ipairs(ids) do is_active[id] = true end
  for _, id in ipairs(call('HKEYS', jobs)) do
    if not is_active[id] then put(paused, id) end
  end
  table.sort(paused)
  for _, id in ipairs(paused) do put(ids, id) end
  read_states(paused)
end
return {pack_up({ids, run_times, lengths}, states)}
"""
)

# Jobs up to a run time, earliest first.
PAGE = Script(
    READING
    + """
take_apart(call('ZRANGEBYSCORE', times, '-inf', given.until_, 'WITHSCORES', 'LIMIT', given.offset, given.size))
read_states(ids)
return {pack_up({ids, run_times, lengths}, states)}
"""
)

# All or none: the number of the first one that is there already, or zero. Given are their identifiers, run times and
# the lengths of their states.
ADD = Script(
    """
local function work()
  local ids, run_times, lengths = unpack(given)
  for index, state in ipairs(read_many('HMGET', jobs, ids)) do
    if state then return tostring(index) end
  end
  local next_state = cut(blob(1))
  local states, due, paused = batch('HSET', jobs), batch('ZADD', times), batch('ZREM', times)
  for index, id in ipairs(ids) do
    put(states, id, next_state(lengths[index]))
    -- A run time that somebody has left behind is not that of this job.
    if run_times[index] then put(due, run_times[index], id) else put(paused, id) end
  end
  flush()
  if #due > 0 then tell() end
  return '0'
end
""",
    once=True,
)

# Without a state that must be there, any will do; "with_time": the run time is compared and written.
CHANGE = Script(
    """
local function work()
  local state = call('HGET', jobs, given.id)
  if not state then return '0' end
  if given.compares then
    if state ~= blob(2) then return '0' end
    if given.with_time and (call('ZSCORE', times, given.id) or '') ~= given.old then return '0' end
  end
  call('HSET', jobs, given.id, blob(1))
  if given.with_time then
    set_time(given.id, given.time)
    if given.time then tell() end
  end
  return '1'
end
""",
    once=True,
)

REMOVE = Script(
    """
local function work()
  local state = call('HGET', jobs, given.id)
  if not state then return '0' end
  if given.compares then
    if state ~= blob(1) or (call('ZSCORE', times, given.id) or '') ~= given.old then return '0' end
  end
  call('HDEL', jobs, given.id)
  call('ZREM', times, given.id)
  return '1'
end
""",
    once=True,
)

REMOVE_ALL = Script("return redis.call('UNLINK', KEYS[1], KEYS[2])", bare=True)

# What is kept of jobs with open runs: identifiers of job and run, and the state, one after the other.
COPIES = Script(
    """
local found = {}
for _, id in ipairs(call('HKEYS', copies)) do
  local run = call('HGET', waiting, id) or call('HGET', running, id)
  if run then
    put(found, cjson.decode(run).job_id, id)
    put(found, call('HGET', copies, id))
  end
end
return found
"""
)

# A state by another one, of a job or of a copy, if it is still the same; the run time stays.
REPLACE = Script(
    """
local function work()
  local set = given.is_copy and copies or jobs
  if call('HGET', set, given.id) ~= blob(2) then return '0' end
  call('HSET', set, given.id, blob(1))
  return '1'
end
""",
    once=True,
)

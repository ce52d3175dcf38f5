"""Scripts of a claim: one reads what is due, another moves on what nobody has changed meanwhile."""

from apscheduler.jobstores.redis.run_scripts import RUNS
from apscheduler.jobstores.redis.scripts import Script

READING = """
-- The first times after now: of a job, of a ready run.
local function next_times()
  local after = '(' .. given.now
  local job = call('ZRANGEBYSCORE', times, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local run = call('ZRANGEBYSCORE', ready, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return {job[2] or '', run[2] or ''}
end

-- Where a page begins that follows a member of a sorted set, which may be gone.
local function find_start(set, after)
  if not after then return 0 end
  if call('ZSCORE', set, after[1]) == after[2] then return call('ZRANK', set, after[1]) + 1 end
  return call('ZCOUNT', set, '-inf', '(' .. after[2])
end

local function read_page(set, after, size)
  local start = find_start(set, after)
  return call('ZRANGEBYSCORE', set, '-inf', given.now, 'WITHSCORES', 'LIMIT', start, size)
end

-- Of each: identifier, time, open claims, length of the state. A run time without a job is removed, and listed.
local function read_due(after, size)
  local page, names, stray = read_page(times, after, size), {}, {}
  for index = 1, #page, 2 do put(names, page[index]) end
  opened.load(names)
  local ids, run_times, claims, lengths, states = {}, {}, {}, {}, {}
  for index, state in ipairs(read_many('HMGET', jobs, names)) do
    local id, number = names[index], #ids + 1
    if state then
      ids[number], run_times[number], claims[number] = id, page[2 * index], opened.get(id)
      lengths[number], states[number] = #state, state
    else
      call('ZREM', times, id)
      put(stray, id)
    end
  end
  local lists, pieces = pack_up({ids, run_times, claims, lengths}, states)
  return {#page / 2, lists, pieces, stray}
end

-- Of each: identifier, time, open claims of its job, lengths of its document and of the copy of its job.
local function read_ready(after, size)
  local page, bytes = read_page(ready, after, size), {}
  local ids, run_times, claims, lengths, copy_lengths = {}, {}, {}, {}, {}
  for index = 1, #page, 2 do
    local id, number = page[index], #ids + 1
    local document, copy = call('HGET', waiting, id), call('HGET', copies, id) or ''
    if document then
      ids[number], run_times[number] = id, page[index + 1]
      claims[number] = opened.get(cjson.decode(document).job_id)
      lengths[number], copy_lengths[number] = #document, #copy
      put(bytes, document, copy)
    else
      call('ZREM', ready, id)
    end
  end
  return {#page / 2, pack_up({ids, run_times, claims, lengths, copy_lengths}, bytes)}
end
"""

# Outcomes first, so that they free instances; then the first page of everything.
LOOK = Script(
    RUNS
    + READING
    + """
complete(given.completions)
write()
return {read_due(nil, given.size), read_ready(nil, given.size), next_times()}
"""
)

MORE_DUE = Script(RUNS + READING + "return read_due(given.after, given.size)")

MORE_READY = Script(RUNS + READING + "return read_ready(given.after, given.size)")

# Of each step whether it was carried out, as 0 or 1, and the next times.
MOVE = Script(
    RUNS
    + READING
    + """
local node, is_owner, next_bytes = given.node, false, cut(blob(1))
local moved, unmoved, removed = batch('ZADD', times), batch('ZREM', times), batch('HDEL', jobs)
-- Times and states of jobs as they are, until they are moved on.
local current_times, current_states = {}, {}

-- Runs: identifiers and documents, one after the other.
local function start(job_id, started, copy)
  local number = #started / 2
  if number == 0 then return end
  for index = 1, #started, 2 do
    put(begun, started[index], started[index + 1])
    if copy then put(copied, started[index], copy) end
  end
  opened.add(job_id, 1)
  owned.add(node, number)
  if number > 1 then divided.add(started[1], number) end
  is_owner = true
end

local function take_due(step)
  local _, id, old, time, is_full, most_claims, started, size, more = unpack(step)
  local state = next_bytes(size)
  for index = 2, #started, 2 do started[index] = next_bytes(started[index]) end
  if current_times[id] ~= old or current_states[id] ~= state then return false end
  -- Whether runs were given up because of others that were going on must be as it was.
  if most_claims and (opened.get(id) >= most_claims) ~= is_full then return false end
  current_times[id] = nil
  if time then
    put(moved, time, id)
  else
    put(unmoved, id)
    put(removed, id)
  end
  start(id, started, more and more.copies and state)
  for _, idle in ipairs(more and more.idle or {}) do keep(idle[1], id, idle[2], idle[3], more.history) end
  return true
end

local function take_ready(step)
  local _, id, most_claims, started, waited, copies = unpack(step)
  for index, document in ipairs(waited) do
    if call('HGET', waiting, started[2 * index - 1]) ~= document then return false end
  end
  if opened.get(id) >= most_claims then return false end
  for index = 1, #started, 2 do
    call('HDEL', waiting, started[index])
    call('ZREM', ready, started[index])
    if not copies then put(uncopied, started[index]) end
  end
  start(id, started)
  return true
end

local function read_current()
  local ids = {}
  for index, step in ipairs(given.steps) do ids[index] = step[2] end
  opened.load(ids)
  local states, scores = read_many('HMGET', jobs, ids), read_many('ZMSCORE', times, ids)
  for index, id in ipairs(ids) do
    current_times[id], current_states[id] = scores[index], states[index]
  end
end

local function work()
  local results = {}
  read_current()
  for index, step in ipairs(given.steps) do
    local take = step[1] and take_ready or take_due
    results[index] = take(step) and '1' or '0'
  end
  if is_owner and given.lease then call('HSET', nodes, node, given.lease) end
  write()
  local first = next_times()
  return table.concat(results) .. ' ' .. first[1] .. ' ' .. first[2]
end
""",
    once=True,
)

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
  local page, entries, states, stray = read_page(times, after, size), {}, {}, {}
  local ids = {}
  for index = 1, #page, 2 do put(ids, page[index]) end
  opened.load(ids)
  for index, state in ipairs(read_many('HMGET', jobs, ids)) do
    local id = ids[index]
    if state then
      put(entries, {id, page[2 * index], opened.get(id), #state})
      put(states, state)
    else
      call('ZREM', times, id)
      put(stray, id)
    end
  end
  local packed, joined = pack_up(entries, states)
  return {#page / 2, packed, joined, stray}
end

-- Of each: identifier, time, open claims of its job, lengths of its document and of the copy of its job.
local function read_ready(after, size)
  local page, entries, bytes = read_page(ready, after, size), {}, {}
  for index = 1, #page, 2 do
    local id = page[index]
    local document, copy = call('HGET', waiting, id), call('HGET', copies, id) or ''
    if document then
      local job_id = cjson.decode(document).job_id
      entries[#entries + 1] = {id, page[index + 1], opened.get(job_id), #document, #copy}
      bytes[#bytes + 1] = document
      bytes[#bytes + 1] = copy
    else
      call('ZREM', ready, id)
    end
  end
  return {#page / 2, pack_up(entries, bytes)}
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
local node, is_owner, next_state = given.node, false, cut(blob(1))
local moved, unmoved, removed = batch('ZADD', times), batch('ZREM', times), batch('HDEL', jobs)
-- Times and states of jobs as they are, until they are moved on.
local current_times, current_states = {}, {}

local function start(job_id, started, copy)
  if #started == 0 then return end
  for _, run in ipairs(started) do
    put(begun, run[1], run[2])
    if copy then put(copied, run[1], copy) end
  end
  opened.add(job_id, 1)
  owned.add(node, #started)
  if #started > 1 then divided.add(started[1][1], #started) end
  is_owner = true
end

local function take_due(step)
  local id, state = step.id, next_state(step.size)
  if current_times[id] ~= step.old or current_states[id] ~= state then return false end
  -- "full": whether runs were given up because of others that were going on. It must be as it was.
  if step.full ~= nil and (opened.get(id) >= step.max) ~= step.full then return false end
  current_times[id] = nil
  if step.time then
    put(moved, step.time, id)
  else
    put(unmoved, id)
    put(removed, id)
  end
  start(id, step.runs, step.copies and state)
  for _, idle in ipairs(step.idle or {}) do keep(idle[1], id, idle[2], idle[3], step.history) end
  return true
end

local function take_ready(step)
  for _, run in ipairs(step.runs) do
    if call('HGET', waiting, run[1]) ~= run[3] then return false end
  end
  if opened.get(step.id) >= step.max then return false end
  for _, run in ipairs(step.runs) do
    call('HDEL', waiting, run[1])
    call('ZREM', ready, run[1])
    if not step.copies then put(uncopied, run[1]) end
  end
  start(step.id, step.runs)
  return true
end

local function read_current()
  local ids = {}
  for _, step in ipairs(given.steps) do put(ids, step.id) end
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
    local take = step.ready and take_ready or take_due
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

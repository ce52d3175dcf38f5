"""Scripts on runs: open ones, finished ones, and the leases of those who own them.

The record of a run is a JSON document. A running one names its owner, attempt and claim; the state of an open run is
where it is kept. Documents are put together as text: numbers in them have more digits than Lua's own JSON would keep.
"""

from apscheduler.jobstores.redis.scripts import Script

RUNS = """
-- Numbers that belong to names, changed together.
local function counter(set)
  local numbers, changed = {}, {}
  local function get(name)
    if not numbers[name] then numbers[name] = tonumber(call('HGET', set, name) or '0') end
    return numbers[name]
  end
  return {
    get = get,
    load = function(names)
      if #names == 0 then return end
      if call('HLEN', set) > #names then
        for index, number in ipairs(read_many('HMGET', set, names)) do
          numbers[names[index]] = tonumber(number or '0')
        end
      else -- Redis looks through a small hash for each name, so all of it is sooner read
        local all = call('HGETALL', set)
        for _, name in ipairs(names) do numbers[name] = 0 end
        for index = 1, #all, 2 do numbers[all[index]] = tonumber(all[index + 1]) end
      end
    end,
    add = function(name, change)
      numbers[name] = get(name) + change
      changed[name] = true
      return numbers[name]
    end,
    write = function()
      local set_, unset = batch('HSET', set), batch('HDEL', set)
      for name in pairs(changed) do
        if numbers[name] > 0 then put(set_, name, numbers[name]) else put(unset, name) end
      end
    end,
  }
end

local opened, owned, divided = counter(open), counter(owners), counter(parts)
local begun, ended = batch('HSET', running), batch('HDEL', running)
local copied, uncopied = batch('HSET', copies), batch('HDEL', copies)
local kept, indexed = batch('HSET', runs), batch('ZADD', history)
local limited, unlimited = batch('HSET', limits), batch('HDEL', limits)
local more_kept, has_limits = {}, call('EXISTS', limits) == 1

-- A run goes on no longer, nor does its claim if it was the last one of it.
local function close(id, run)
  put(ended, id)
  owned.add(run.node, -1)
  if run.several and divided.add(run.claim_id, -1) > 0 then return end
  opened.add(run.job_id, -1)
end

-- A run has ended, and is kept as history.
local function keep(id, job_id, document, time, limit)
  put(kept, id, document)
  put(indexed, time, id)
  call('ZADD', history .. ':' .. job_id, time, id)
  more_kept[job_id] = (more_kept[job_id] or 0) + 1
  if limit then put(limited, job_id, limit) elseif has_limits then put(unlimited, job_id) end
end

local function write()
  opened.write()
  owned.write()
  divided.write()
  local job_ids, counted = {}, batch('ZADD', counts)
  for job_id in pairs(more_kept) do put(job_ids, job_id) end
  if #job_ids > 0 then
    for index, number in ipairs(read_many('ZMSCORE', counts, job_ids)) do
      put(counted, tonumber(number or '0') + more_kept[job_ids[index]], job_ids[index])
    end
  end
  flush()
end

local function forget(id, job_id)
  call('HDEL', runs, id)
  call('ZREM', history, id)
  call('ZREM', history .. ':' .. job_id, id)
  if tonumber(call('ZINCRBY', counts, -1, job_id)) <= 0 then
    call('ZREM', counts, job_id)
    call('HDEL', limits, job_id)
  end
end

-- Outcomes of runs that are still owned by those who report them: identifier, node, attempt and outcome.
local function complete(outcomes)
  if #outcomes == 0 then return end
  local ids, found, job_ids, is_done = {}, {}, {}, {}
  for index, outcome in ipairs(outcomes) do ids[index] = outcome[1] end
  for index, document in ipairs(read_many('HMGET', running, ids)) do
    if document then
      found[index] = cjson.decode(document)
      found[index].document = document
      put(job_ids, found[index].job_id)
    end
  end
  opened.load(job_ids)
  for index, outcome in ipairs(outcomes) do
    local id, node, attempt, ending = unpack(outcome)
    local run = found[index]
    if run and run.node == node and run.attempt == attempt and not is_done[id] then
      is_done[id] = true
      close(id, run)
      if run.max_attempts then put(uncopied, id) end
      if ending then
        local document = string.sub(run.document, 1, -2) .. ',' .. string.sub(ending, 2)
        keep(id, run.job_id, document, run.scheduled_time, run.history)
      end
    end
  end
end

local function wait(id, document, time, copy)
  call('HSET', waiting, id, document)
  call('ZADD', ready, time, id)
  if copy then put(copied, id, copy) end
end
"""

COMPLETE = Script(RUNS + "complete(given)\nwrite()")

ADD_READY = Script(
    RUNS
    + """
local function work()
  wait(given.id, given.document, given.time, blob(1))
  write()
  tell()
  return '1'
end
""",
    once=True,
)

# Unless somebody has taken the run over, and started it again.
HAND_BACK = Script(
    RUNS
    + """
local function work()
  local count = 0
  for _, back in ipairs(given) do
    local document = call('HGET', running, back.id)
    local run = document and cjson.decode(document)
    if run and run.claim_id == back.claim_id and run.attempt == back.attempt then
      close(back.id, run)
      wait(back.id, back.document, back.time, blob(back.copy))
      count = count + 1
    end
  end
  write()
  if count > 0 then tell() end
  return tostring(count)
end
""",
    once=True,
)

RENEW = Script("call('HSET', nodes, given.node, given.lease)")

DROP = Script("call('HDEL', nodes, given)")

# How many of the keys there are that a store with anything in it has.
EXISTS = Script("""
return call('EXISTS', jobs, times, running, ready, runs, history, nodes)
""")

# All leases, and how many runs each node owns.
LEASES = Script("return {call('HGETALL', nodes), call('HGETALL', owners)}")

# Nodes without a lease get one, unless they have shown that they are alive or own nothing any more.
GIVE_LEASES = Script("""
for _, new in ipairs(given) do
  if call('HEXISTS', owners, new.node) == 1 then call('HSETNX', nodes, new.node, new.lease) end
end
""")

# Takes runs of nodes whose leases are still the ones that were read: returns the numbers of those that were taken.
TAKE = Script(
    RUNS
    + """
local function work()
  local dead, taken, is_ready = {}, {}, false
  for _, node in ipairs(given.nodes) do
    if call('HGET', nodes, node.node) == node.lease then dead[node.node] = true end
  end
  for index, take in ipairs(given.runs) do
    if dead[take.node] and call('HGET', running, take.id) == take.old then
      close(take.id, cjson.decode(take.old))
      if take.time then
        wait(take.id, take.document, take.time)
        is_ready = true
      else
        put(uncopied, take.id)
        keep(take.id, take.job_id, take.document, take.scheduled_time, take.history)
      end
      taken[#taken + 1] = index
    end
  end
  write()
  for node in pairs(dead) do call('HDEL', nodes, node) end
  if is_ready then tell() end
  return table.concat(taken, ' ')
end
""",
    once=True,
)

OPEN_RUNS = Script("return {call('HGETALL', running), call('HGETALL', waiting)}")

# Finished runs, of one job or of all, latest first.
FINISHED_RUNS = Script("""
local index = history
if given.job_id then index = history .. ':' .. given.job_id end
local found = call('ZREVRANGEBYSCORE', index, given.max, given.min, 'LIMIT', given.offset, given.size)
local documents = {}
for number, id in ipairs(found) do documents[number] = call('HGET', runs, id) end
return {found, documents}
""")

# Forgets those of a page of finished runs that have ended before a time: how many were looked at, and forgotten.
PRUNE_OLD = Script(
    RUNS
    + """
local page = call('ZRANGEBYSCORE', history, '-inf', '(' .. given.before, 'LIMIT', given.offset, given.size)
local forgotten = 0
for _, id in ipairs(page) do
  local run = cjson.decode(call('HGET', runs, id) or 'null')
  if run == cjson.null then
    call('ZREM', history, id)
    forgotten = forgotten + 1
  elseif run.finished_at < tonumber(given.before) then
    forget(id, run.job_id)
    forgotten = forgotten + 1
  end
end
return {#page, forgotten}
"""
)

# Forgets the oldest runs of jobs that have more than they, or the store, want to keep: how many.
PRUNE_SURPLUS = Script(
    RUNS
    + """
local left = given.size
local function trim(job_id, allowed)
  local surplus = math.min(call('ZCARD', history .. ':' .. job_id) - allowed, left)
  if surplus <= 0 then return end
  for _, id in ipairs(call('ZRANGE', history .. ':' .. job_id, 0, surplus - 1)) do
    forget(id, job_id)
    left = left - 1
  end
end
local own = call('HGETALL', limits)
local has_own = {}
for index = 1, #own, 2 do
  has_own[own[index]] = true
  if left > 0 then trim(own[index], tonumber(own[index + 1])) end
end
if given.allowed then
  for _, job_id in ipairs(call('ZRANGEBYSCORE', counts, '(' .. given.allowed, '+inf')) do
    if left > 0 and not has_own[job_id] then trim(job_id, given.allowed) end
  end
end
return given.size - left
"""
)

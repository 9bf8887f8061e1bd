"""The ledger's changes, each one a script, which Redis runs as one step."""

from __future__ import annotations

from typing import Final

_HEAD = """
local base = KEYS[1]
local waiting, delayed, active, dead = base .. 'waiting', base .. 'delayed', base .. 'active', base .. 'dead'
local function job(id) return base .. 'job:' .. id end
local function bill(id, fence, cost)
    if cost ~= '' then
        local known = redis.call('HGET', job(id), 'bill:' .. fence)
        if not known or tonumber(known) < tonumber(cost) then redis.call('HSET', job(id), 'bill:' .. fence, cost) end
    end
end
local function finish(id, keep)
    redis.call('PEXPIRE', job(id), keep)
    local key = redis.call('HGET', job(id), 'key')
    if key then redis.call('PEXPIRE', base .. 'key:' .. key, keep) end
end
"""

_PUT = """
local id, envelope, task, key, due, now, most = unpack(ARGV)
if redis.call('EXISTS', job(id)) == 1 then return {'known', id} end
if key ~= '' then
    local known = redis.call('GET', base .. 'key:' .. key)
    if known then return {'known', known} end
end
local held = redis.call('ZCARD', waiting) + redis.call('ZCARD', delayed) + redis.call('ZCARD', active)
    + redis.call('ZCARD', dead)
if held >= tonumber(most) then return {'full', tostring(held)} end
local later = tonumber(due) > tonumber(now)
redis.call('HSET', job(id), 'envelope', envelope, 'task', task, 'due', due, 'status', later and 'delayed' or 'waiting')
if key ~= '' then
    redis.call('HSET', job(id), 'key', key)
    redis.call('SET', base .. 'key:' .. key, id)
end
if later then
    redis.call('ZADD', delayed, due, id)
    return {'delayed', id}
end
redis.call('ZADD', waiting, now, id)
return {'new', id}
"""

_LEASE = """
local function lease(id, token, till)
    local held = redis.call('HMGET', job(id), 'status', 'envelope', 'due', 'redelivered', 'cancelled', 'token', 'fence',
        'attempts')
    local fence, attempt = tonumber(held[7]) or 0, tonumber(held[8]) or 0
    if held[1] == 'waiting' then
        fence, attempt = fence + 1, attempt + 1
        redis.call('ZREM', waiting, id)
        redis.call('ZADD', active, till, id)
        redis.call('HSET', job(id), 'status', 'active', 'token', token, 'fence', fence, 'attempts', attempt)
        if held[4] then redis.call('HDEL', job(id), 'redelivered') end
    elseif held[1] ~= 'active' or held[6] ~= token then
        return false
    end
    local cost = ''
    if fence > 1 then
        local fields = redis.call('HGETALL', job(id))
        for at = 1, #fields, 2 do
            if string.sub(fields[at], 1, 5) == 'bill:' then cost = (tonumber(cost) or 0) + tonumber(fields[at + 1]) end
        end
        if cost ~= '' then cost = string.format('%.17g', cost) end
    end
    return {held[2], token, tostring(fence), tostring(attempt), held[3], held[4] or '0', held[5] or '0', cost}
end
"""

_CLAIM = """
local id, token, till = unpack(ARGV)
return lease(id, token, till)
"""

_SWEEP = """
local token, till, before, most = unpack(ARGV)
local found = {}
for at, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', before, 'LIMIT', 0, most)) do
    table.insert(found, lease(id, token .. '-' .. at, till))
end
return found
"""

_RENEW = """
local id, token, fence, till, cost = unpack(ARGV)
if redis.call('EXISTS', job(id)) == 0 then return 'lost' end
bill(id, fence, cost)
local held = redis.call('HMGET', job(id), 'status', 'token', 'cancelled')
if held[1] ~= 'active' or held[2] ~= token then return 'lost' end
redis.call('ZADD', active, till, id)
return held[3] == '1' and 'cancelled' or 'held'
"""

_SETTLE = """
local id, token, fence, outcome, result, error, now, due, cost, keep = unpack(ARGV)
if redis.call('EXISTS', job(id)) == 0 then return 0 end
bill(id, fence, cost)
local held = redis.call('HMGET', job(id), 'status', 'token', 'settled')
if held[1] ~= 'active' or held[2] ~= token then return held[3] == token and 1 or 0 end
redis.call('ZREM', active, id)
redis.call('HSET', job(id), 'settled', token)
redis.call('HDEL', job(id), 'token', 'result', 'error')
if result ~= '' then redis.call('HSET', job(id), 'result', result) end
if error ~= '' then redis.call('HSET', job(id), 'error', error) end
if outcome == 'completed' or outcome == 'cancelled' then
    redis.call('HSET', job(id), 'status', outcome)
    redis.call('HDEL', job(id), 'envelope')
    finish(id, keep)
elseif outcome == 'dead_letter' then
    redis.call('HSET', job(id), 'status', 'dead_letter')
    redis.call('ZADD', dead, now, id)
else
    if outcome == 'released' then redis.call('HINCRBY', job(id), 'attempts', -1) end
    redis.call('HSET', job(id), 'status', 'delayed', 'due', due)
    redis.call('ZADD', delayed, due, id)
end
return 1
"""

_DUE = """
local now, most = unpack(ARGV)
local found = {}
local function send(id)
    redis.call('HSET', job(id), 'status', 'waiting')
    redis.call('ZADD', waiting, now, id)
    table.insert(found, id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, most)) do
    redis.call('ZREM', delayed, id)
    send(id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', active, '-inf', now, 'LIMIT', 0, most)) do
    redis.call('HSET', job(id), 'due', redis.call('ZSCORE', active, id), 'redelivered', '1')
    redis.call('ZREM', active, id)
    send(id)
end
return found
"""

_CANCEL = """
local id, keep = unpack(ARGV)
local status = redis.call('HGET', job(id), 'status')
if status == 'active' then
    redis.call('HSET', job(id), 'cancelled', '1')
    return 1
end
if status ~= 'waiting' and status ~= 'delayed' then return 0 end
redis.call('ZREM', waiting, id)
redis.call('ZREM', delayed, id)
redis.call('HSET', job(id), 'status', 'cancelled')
redis.call('HDEL', job(id), 'envelope')
finish(id, keep)
return 1
"""

_REQUEUE = """
local id, now = unpack(ARGV)
if redis.call('HGET', job(id), 'status') ~= 'dead_letter' then return 0 end
redis.call('ZREM', dead, id)
redis.call('HDEL', job(id), 'error', 'cancelled')
redis.call('HSET', job(id), 'status', 'waiting', 'attempts', '0', 'due', now)
redis.call('ZADD', waiting, now, id)
return 1
"""

_COUNTS = """
local oldest = ''
local first = redis.call('ZRANGE', waiting, 0, 0)[1]
if first then oldest = redis.call('HGET', job(first), 'due') or '' end
return {redis.call('ZCARD', waiting), redis.call('ZCARD', delayed), redis.call('ZCARD', active),
    redis.call('ZCARD', dead), oldest}
"""

SCRIPTS: Final = {
    name: _HEAD + body
    for name, body in {
        "put": _PUT,
        "claim": _LEASE + _CLAIM,
        "sweep": _LEASE + _SWEEP,
        "renew": _RENEW,
        "settle": _SETTLE,
        "due": _DUE,
        "cancel": _CANCEL,
        "requeue": _REQUEUE,
        "counts": _COUNTS,
    }.items()
}

/** The longest text that is stored. Clients that are not ours can store longer ones. */
export const TEXT_BYTES = 4_096;
/** The longest member of a queue, in bytes: a network in text is shorter. */
const MEMBER_BYTES = 64;
/** The number of times that a full store of first-seen times makes room for at once. */
const FIRST_SEEN_ROOM = 1_000;

/**
 * Scripts that read and write atomically. All keys of peerscope are on one node of a Redis Cluster. Another client of the server may
 * have written a value of another type or any size under a key; a script cuts, ignores or overwrites it.
 */
export const SCRIPTS = {
  /** Takes a lease unless its remaining time is possible. Returns 0, or the remaining time. */
  acquire: `
    local left = redis.call('PTTL', KEYS[1])
    if left >= 0 and left <= tonumber(ARGV[3]) then return math.max(left, 1) end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 0`,
  /** A missing lease was lost with the server's data, so it is created again. */
  renew: `
    local holder = redis.pcall('GETRANGE', KEYS[1], 0, 63)
    if type(holder) == 'string' and holder ~= '' and holder ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1`,
  release: `
    if redis.pcall('GETRANGE', KEYS[1], 0, 63) ~= ARGV[1] then return 0 end
    return redis.call('DEL', KEYS[1])`,
  /**
   * A value that is not a time is not ours and is overwritten. The times are indexed by tenant. With too many of them, those of tenants
   * that wrote none for 90 days are forgotten, and then the oldest of the largest tenant are deleted. With a full server, the oldest
   * of a tenant with more than a thousand are deleted. Returns the time before, in a list if times were deleted because there are too many.
   * KEYS: the time, the index of the tenant, the sizes of the tenants, their last writes, the total.
   * ARGV: the time, its lifetime, the current time, the maximum total, the tenant, the key of the time without a prefix.
   */
  writeFirstSeen: `
    local key, index, sizes, last, all = unpack(KEYS)
    local ttl, now, most, tenant, member = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
    local kept = redis.pcall('GETRANGE', key, 0, 15)
    if type(kept) == 'table' and not string.find(kept.err, 'WRONGTYPE', 1, true) then return kept end
    local before = type(kept) == 'string' and #kept < 16 and string.match(kept, '^%d+$') and tonumber(kept) or nil
    local root = string.sub(key, 1, -#member - 1)
    local indexes = string.sub(index, 1, -#tenant - 1)
    local function forget(name, left)
      if left > 0 then return redis.call('ZADD', sizes, left, name) end
      redis.call('ZREM', sizes, name)
      redis.call('ZREM', last, name)
    end
    local function drop(name, most)
      local oldest = redis.call('ZRANGE', indexes .. name, 0, most - 1)
      for _, old in ipairs(oldest) do redis.call('DEL', root .. old) end
      if #oldest > 0 then redis.call('ZREM', indexes .. name, unpack(oldest)) end
      return #oldest
    end
    local isFull = false
    local function shrink()
      isFull = true
      local size, freed = tonumber(redis.call('GETRANGE', all, 0, 15)), 0
      for _, name in ipairs(redis.call('ZRANGEBYSCORE', last, '-inf', now - tonumber(ttl), 'LIMIT', 0, 1000)) do
        freed = freed + tonumber(redis.call('ZSCORE', sizes, name) or 0)
        forget(name, 0)
      end
      for _ = 1, ${FIRST_SEEN_ROOM} do
        local largest = redis.call('ZRANGE', sizes, -1, -1)[1]
        if size - freed <= most - ${FIRST_SEEN_ROOM} or not largest then break end
        local count = redis.call('ZCARD', indexes .. largest)
        local known = tonumber(redis.call('ZSCORE', sizes, largest))
        local dropped = drop(largest, math.min(500, math.floor(count / 10) + 1))
        forget(largest, count - dropped)
        freed = freed + math.max(count > 0 and 1 or known, dropped)
      end
      redis.call('SET', all, math.max(0, size - freed))
    end
    if before and before <= tonumber(ARGV[1]) then
      redis.call('PEXPIRE', key, ttl)
    else
      local set = redis.pcall('SET', key, ARGV[1], 'PX', ttl)
      if set.err then
        pcall(function()
          local largest = string.find(set.err, 'OOM', 1, true) and redis.call('ZRANGE', sizes, -1, -1)[1]
          local count = largest and redis.call('ZCARD', indexes .. largest) or 0
          if count <= ${FIRST_SEEN_ROOM} then return end
          -- A full server does not let the total be changed: it is counted again from here.
          redis.call('DEL', all)
          for _ = 1, math.min(20, math.floor(count / 1000)) do drop(largest, 500) end
        end)
        return set
      end
    end
    local isIndexed = pcall(function()
      if redis.call('ZADD', index, now, member) == 1 then
        redis.call('ZADD', sizes, 'INCR', 1, tenant)
        redis.call('INCR', all)
      end
      redis.call('ZADD', last, now, tenant)
      if tonumber(redis.call('GETRANGE', all, 0, 15)) > most then shrink() end
      for i = 2, 5 do redis.call('PEXPIRE', KEYS[i], ttl) end
    end)
    if not isIndexed and not before then redis.call('DEL', index, sizes, last, all) end
    return isFull and {before and string.format('%.0f', before) or ''} or before`,
  enqueue: `
    local count = redis.pcall('ZCARD', KEYS[1])
    if type(count) == 'table' then
      if not string.find(count.err, 'WRONGTYPE', 1, true) then return count end
      redis.call('DEL', KEYS[1])
      count = 0
    end
    local room = tonumber(ARGV[1]) - count
    for i = 4, #ARGV do
      if room <= 0 then break end
      room = room - redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[i])
    end
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])`,
  /** Returns the first members and removes those that are too long. */
  readQueue: `
    local members = redis.pcall('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)
    if members.err then
      if not string.find(members.err, 'WRONGTYPE', 1, true) then return members end
      redis.call('DEL', KEYS[1])
      return {}
    end
    local short = {}
    for _, member in ipairs(members) do
      if #member <= ${MEMBER_BYTES} then short[#short + 1] = member else redis.call('ZREM', KEYS[1], member) end
    end
    return short`,
};

/** A reply of the wrong type counts as a failure: the server is not Redis, or it is broken. */
function unexpected(reply: unknown): Error {
  const error = new Error(`unexpected reply ${JSON.stringify(reply).slice(0, 80)}`);
  error.name = 'ReplyError';
  return error;
}

export function isErrorReply(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}

/** The error of a command for a key whose value has another type. */
export function isWrongType(error: unknown): boolean {
  return isErrorReply(error) && error.message.startsWith('WRONGTYPE');
}

export function toOk(reply: unknown): true {
  if (reply !== 'OK') throw unexpected(reply);
  return true;
}

export function toText(reply: unknown): string | null {
  if (reply !== null && typeof reply !== 'string') throw unexpected(reply);
  return reply;
}

/** Returns the text of GETRANGE up to `TEXT_BYTES`; null for none. A longer text is not ours. */
export function toShortText(reply: unknown): string | null {
  const text = toText(reply) ?? '';
  return text === '' || text.length > TEXT_BYTES ? null : text;
}

/** Returns milliseconds since 1970. */
export function toTime(reply: unknown): number {
  const [seconds, microseconds] = toTexts(reply).map(Number);
  const time = Number(seconds) * 1000 + Number(microseconds) / 1000;
  if (!Number.isFinite(time)) throw unexpected(reply);
  return time;
}

export function toNumber(reply: unknown): number {
  if (typeof reply !== 'number') throw unexpected(reply);
  return reply;
}

/** The reply of `writeFirstSeen`. */
export function toPreviousTime(reply: unknown): { readonly previous: number | null; readonly isFull: boolean } {
  if (!Array.isArray(reply)) return { previous: reply === null ? null : toNumber(reply), isFull: false };
  const [text, ...others] = toTexts(reply);
  if (text === undefined || others.length > 0 || !/^\d{0,15}$/.test(text)) throw unexpected(reply);
  return { previous: text === '' ? null : Number(text), isFull: true };
}

export function toTexts(reply: unknown): readonly string[] {
  if (!Array.isArray(reply) || !reply.every((text) => typeof text === 'string')) throw unexpected(reply);
  return reply;
}

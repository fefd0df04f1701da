/** Scripts that read and write one key atomically. */
export const SCRIPTS = {
  /** A missing lease was lost with the server's data, so it is created again. */
  renew: `
    local holder = redis.call('GET', KEYS[1])
    if holder and holder ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1`,
  release: `
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    return redis.call('DEL', KEYS[1])`,
  /** A value that is not a number is not ours and is overwritten. */
  writeFirstSeen: `
    local kept = redis.pcall('GET', KEYS[1])
    if type(kept) == 'table' and not string.find(kept.err, 'WRONGTYPE', 1, true) then return kept end
    local before = type(kept) == 'string' and tonumber(kept) or nil
    if before and before <= tonumber(ARGV[1]) then
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
    else
      redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    end
    return before`,
  enqueue: `
    local room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[1])
    for i = 4, #ARGV do
      if room <= 0 then break end
      room = room - redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[i])
    end
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])`,
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

export function toOk(reply: unknown): true {
  if (reply !== 'OK') throw unexpected(reply);
  return true;
}

export function toText(reply: unknown): string | null {
  if (reply !== null && typeof reply !== 'string') throw unexpected(reply);
  return reply;
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

export function toTexts(reply: unknown): readonly string[] {
  if (!Array.isArray(reply) || !reply.every((text) => typeof text === 'string')) throw unexpected(reply);
  return reply;
}

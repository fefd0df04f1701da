import type { RecordPage, StoredRecord } from './contract.ts';
import { toNumber, toTexts } from './redis-commands.ts';
import {
  batches,
  decodeCursor,
  encodeCursor,
  MAX_RECORDS,
  PAGE,
  RECORD_KEY_BYTES,
  RECORD_TEXT_BYTES,
  RECORD_TTL_MS,
} from './records.ts';

/** The sorted set of all records by the sequence number of their last change. */
const CHANGES = 'records:changes';
/** Each record is a string under this prefix and its key: a first-seen time may have the same key. */
const RECORD = 'record:';
/** One script writes at most this much. */
const BATCH = 100;
const BATCH_BYTES = 65_536;
/** A script drops at most this many records, by the owners in slices of the set. */
const MAX_DROPPED = 500;
const SLICES = 20;
const SLICE = 50;
/** The approximate size of a page: replies are bounded too. */
const PAGE_BYTES = 524_288;
/** An equal text that was written within this time is not a change: all exporters write all records again to a server that lost its data. */
const REPEAT_MS = 3_600_000;
/** How many changes are read again after the connection was lost: a server that took over may lack the last ones. */
const OVERLAP = 10_000;

/**
 * The last member of the set is "~" and the identity of the set; its score is the last sequence number. A set without it was lost or
 * damaged, and a new one begins. `last` is the reply of ZRANGE for it.
 */
const FIND_IDENTITY = `
  local index = KEYS[1]
  local root = string.sub(index, 1, -${CHANGES.length + 1})
  local last = redis.pcall('ZRANGE', index, -1, -1, 'WITHSCORES')
  if last.err and not string.find(last.err, 'WRONGTYPE', 1, true) then return last end
  local identity, sequence = last[1] or '', tonumber(last[2])
  if string.sub(identity, 1, 1) ~= '~' or #identity > 64 or sequence < 0 or sequence > ${Number.MAX_SAFE_INTEGER} then
    if last.err or identity ~= '' then redis.call('DEL', index) end
    identity, sequence = '', 0
  end`;

/**
 * Writes records. Of too many, the owners with the most lose their oldest: as seen in slices of the set from its oldest to its newest
 * record, because a count for each owner would be one more thing that can be damaged. This script and the others need only permissions
 * that those of version 0.1 need too.
 */
const WRITE = `${FIND_IDENTITY}
  local ttl, repeats, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
  if identity == '' then identity = '~' .. ARGV[4] end
  for i = 2, #KEYS do
    local key, text = ARGV[2 * i + 1], ARGV[2 * i + 2]
    local isRepeated = redis.pcall('GETRANGE', KEYS[i], 0, ${RECORD_TEXT_BYTES}) == text
      and redis.call('PTTL', KEYS[i]) > tonumber(ttl) - repeats and redis.call('ZSCORE', index, key)
    if isRepeated then
      redis.call('PEXPIRE', KEYS[i], ttl)
    else
      local set = redis.pcall('SET', KEYS[i], text, 'PX', ttl)
      if set.err then return set end
      sequence = sequence + 1
      redis.call('ZADD', index, sequence, key, sequence, identity)
    end
  end
  local count = redis.call('ZCARD', index) - 1
  if count > most then
    local seen, keys, owners, sizes, oldest = {}, {}, {}, {}, {}
    for slice = 0, ${SLICES - 1} do
      local from = math.floor(math.max(0, count - ${SLICE}) * slice / ${SLICES - 1})
      for _, key in ipairs(redis.call('ZRANGE', index, from, from + ${SLICE - 1})) do
        if key ~= identity and not seen[key] then
          seen[key] = true
          local owner = string.match(key, '^%l[^%[]*(%[".-",".-")')
          if owner then
            keys[#keys + 1], owners[#owners + 1] = key, owner
            sizes[owner] = (sizes[owner] or 0) + 1
          else
            oldest[#oldest + 1] = key
          end
        end
      end
    end
    local excess = math.min(count - most - #oldest, ${MAX_DROPPED})
    local low, high = 0, #keys
    while low < high do
      local middle, over = math.ceil((low + high) / 2), 0
      for _, size in pairs(sizes) do over = over + math.max(0, size - middle) end
      if over >= excess then low = middle else high = middle - 1 end
    end
    for i, key in ipairs(keys) do
      if excess > 0 and sizes[owners[i]] > low then
        oldest[#oldest + 1] = key
        sizes[owners[i]] = sizes[owners[i]] - 1
        excess = excess - 1
      end
    end
    for _, old in ipairs(oldest) do redis.call('DEL', root .. '${RECORD}' .. old) end
    if #oldest > 0 then redis.call('ZREM', index, unpack(oldest)) end
  end
  redis.call('PEXPIRE', index, ttl)
  return sequence`;

/** Returns the identity, the place reached, the last sequence number, and keys with their texts. Removes what is not ours. */
const READ = `${FIND_IDENTITY}
  if identity == '' then return {'', '0', '0'} end
  local after = tonumber(ARGV[2])
  if ARGV[1] ~= identity or after > sequence then after = 0 end
  local members = redis.call('ZRANGEBYSCORE', index, '(' .. string.format('%.0f', after), '+inf', 'WITHSCORES', 'LIMIT', 0, ${PAGE})
  local reached, size, page = #members < ${2 * PAGE} and last[2] or members[#members], 0, {}
  for i = 1, #members, 2 do
    local key = members[i]
    local held = root .. '${RECORD}' .. key
    if key ~= identity then
      local text = redis.pcall('GETRANGE', held, 0, ${RECORD_TEXT_BYTES})
      if type(text) == 'table' and not string.find(text.err, 'WRONGTYPE', 1, true) then return text end
      if type(text) == 'table' or text == '' or #text > ${RECORD_TEXT_BYTES} or #key > ${RECORD_KEY_BYTES} then
        redis.call('ZREM', index, key)
        redis.call('DEL', held)
      else
        size = size + #key + #text
        if size > ${PAGE_BYTES} then
          reached = members[i - 1]
          break
        end
        page[#page + 1] = key
        page[#page + 1] = text
      end
    end
  end
  return {identity, reached, last[2], unpack(page)}`;

/**
 * Returns the place reached and the first-seen times of version 0.1 with their keys: from the owner that wrote last to the one that wrote
 * first. An owner or a time that is written meanwhile moves to the front, which hides no other.
 */
const READ_FIRST_SEEN = `
  local owners = KEYS[1]
  local root = string.sub(owners, 1, -#'first:last' - 1)
  local rank, owner, offset = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
  local looked, page = 0, {}
  while looked < ${PAGE} do
    if owner == '' then
      local names = redis.pcall('ZRANGE', owners, -1 - rank, -1 - rank)
      if names.err and not string.find(names.err, 'WRONGTYPE', 1, true) then return names end
      owner = names[1] or ''
      if owner == '' then return {'-1', '', '0', unpack(page)} end
    end
    local most = ${PAGE} - looked
    local members = #owner <= ${RECORD_KEY_BYTES}
      and redis.pcall('ZRANGE', root .. 'first:of:' .. owner, -offset - most, -offset - 1) or {}
    for _, key in ipairs(members) do
      if #key <= ${RECORD_KEY_BYTES} and (string.sub(key, 1, 8) == 'first:1:' or string.sub(key, 1, 7) == 'base:1:') then
        local time = redis.pcall('GETRANGE', root .. key, 0, 15)
        if type(time) == 'string' and string.match(time, '^%d+$') and #time < 16 then
          page[#page + 1] = key
          page[#page + 1] = time
        end
      end
    end
    looked = looked + math.max(1, #members)
    offset = offset + #members
    if #members < most then
      rank, owner, offset = rank + 1, '', 0
    end
  end
  return {tostring(rank), owner, tostring(offset), unpack(page)}`;

/** Runs a script on these keys. */
type Evaluate = (script: string, keys: readonly string[], given: readonly string[]) => Promise<unknown>;

/** Writes a batch of `recordBatches`. `identity` is that of a new set, if there is none. */
export async function writeBatch(
  evaluate: Evaluate,
  records: readonly StoredRecord[],
  identity: string,
  most = MAX_RECORDS,
): Promise<number> {
  const keys = [CHANGES, ...records.map(({ key }) => RECORD + key)];
  const given = [RECORD_TTL_MS, REPEAT_MS, most].map(String);
  return evaluate(WRITE, keys, [...given, identity, ...records.flatMap(({ key, text }) => [key, text])]).then(toNumber);
}

export const recordBatches = (records: readonly StoredRecord[]): Iterable<readonly StoredRecord[]> =>
  batches(records, BATCH, BATCH_BYTES);

/**
 * Reads a page. `connection` is the number of the connection. `isOther` says that the set is not the one that the cursor is for: it was
 * lost, and this page begins again.
 */
export async function readPage(
  evaluate: Evaluate,
  since: string | null,
  connection: number,
): Promise<RecordPage & { readonly isOther: boolean }> {
  const changes = decodeCursor(since, 'changes', 3);
  if (!changes) {
    const [fromRank, fromOwner, fromOffset] = decodeCursor(since, 'first', 3) ?? [0, '', 0];
    const place = [Number(fromRank) || 0, fromOwner, Number(fromOffset) || 0].map(String);
    const reply = toTexts(await evaluate(READ_FIRST_SEEN, ['first:last'], place));
    const [rank = '', owner = '', offset = ''] = reply;
    const next =
      rank === '-1'
        ? encodeCursor('changes', '', 0, connection)
        : encodeCursor('first', Number(rank), owner, Number(offset));
    return { records: pairs(reply.slice(3)), next, isLast: false, isOther: false };
  }
  const [identity, after, on] = [String(changes[0]), Number(changes[1]) || 0, changes[2]];
  const from = on === connection ? after : Math.max(0, after - OVERLAP);
  const reply = toTexts(await evaluate(READ, [CHANGES], [identity, String(from)]));
  const [current = '', reached = '', last = ''] = reply;
  return {
    records: pairs(reply.slice(3)),
    next: encodeCursor('changes', current, Number(reached), connection),
    isLast: Number(reached) >= Number(last),
    isOther: identity !== '' && current !== identity,
  };
}

function pairs(texts: readonly string[]): StoredRecord[] {
  const records: StoredRecord[] = [];
  for (let i = 0; i + 1 < texts.length; i += 2) records.push({ key: texts[i] ?? '', text: texts[i + 1] ?? '' });
  return records;
}

//! What Redis does in one piece: a script is atomic, and only what it writes is replicated.

/// Puts entries. KEYS: entries, expiry. ARGV: from when on what expired is dropped, how many there may be, the channel;
/// then of each entry its key, its time, and as it is stored.
pub const PUT: &str = "\
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, 200)
for _, key in ipairs(gone) do redis.call('HDEL', KEYS[1], key) redis.call('ZREM', KEYS[2], key) end
for at = 4, #ARGV, 3 do
  if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then
    return redis.error_reply('FULL of revocations')
  end
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 2])
  redis.call('ZADD', KEYS[2], ARGV[at + 1], ARGV[at])
end
";

/// After [`PUT`] of one entry: counts it, where there is an epoch, and tells. KEYS: and the epoch. A Lua number would lose
/// digits of the epoch, so it stays a text.
pub const COUNT: &str = "\
local epoch = ''
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('INCR', KEYS[3]) epoch = redis.call('GET', KEYS[3]) end
redis.call('PUBLISH', ARGV[3], epoch .. '\\n' .. ARGV[6])
return epoch
";

/// Raises the epoch, and tells. KEYS: the epoch. ARGV: what to, the channel.
pub const RAISE: &str = "\
local epoch = redis.call('GET', KEYS[1])
if not epoch or tonumber(epoch) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) epoch = ARGV[1] end
redis.call('PUBLISH', ARGV[2], epoch .. '\\n')
return epoch
";

-- Answers that portcullis lets be remembered, in each worker, for as long as it says.
--
-- What an answer depends on is known only from the answer, so a look-up takes two steps: method, host and path lead to the names
-- of all headers that any answer for them depended on; these with their values lead to the answer. Depending on more than need
-- be loses a hit, never an answer's soundness. The names of all headers are part of every key: which headers are to be removed
-- depends on which there are. Keys are HMACs under a secret of the worker's, so that no memory dump
-- and no collision made elsewhere says anything of a token.

local lrucache = require "resty.lrucache"

local concat = table.concat
local ipairs = ipairs
local ngx = ngx
local pairs = pairs
local rawget = rawget
local setmetatable = setmetatable
local sort = table.sort
local tostring = tostring
local type = type

-- Larger ones are not remembered: `cache_size` bounds their number only.
local MAX_BODY = 16 * 1024
local MAX_VARY = 32
local BLOCK = 64

local _M = {}

-- By configuration, which is a new table whenever it changes.
local memories = setmetatable({}, { __mode = "k" })


-- HMAC-SHA256 (RFC 2104) under this key.
function _M.hmac(key)
  local sha256 = require "resty.sha256"
  local function digest(a, b)
    local hash = sha256:new()
    hash:update(a)
    hash:update(b)
    return hash:final()
  end
  if #key > BLOCK then
    key = digest(key, "")
  end
  key = key .. ("\0"):rep(BLOCK - #key)
  local function pad(byte)
    return (key:gsub(".", function(c)
      return string.char(bit.bxor(c:byte(), byte))
    end))
  end
  local inner, outer = pad(0x36), pad(0x5c)
  return function(message)
    return digest(outer, digest(inner, message))
  end
end


-- Each part with its length, so that no two lists of parts read the same.
local function joined(parts)
  local out = {}
  for n, part in ipairs(parts) do
    out[n] = #part .. ":" .. part
  end
  return concat(out)
end


-- A header's lines as one part; an absent one differs from an empty one.
local function lines(value)
  if value == nil then
    return "-"
  end
  return type(value) == "table" and joined(value) or joined({ tostring(value) })
end


local function sorted(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = name
  end
  sort(names)
  return names
end


local function made(conf)
  local secret = require("resty.random").bytes(32, true)
  return {
    hmac = _M.hmac(assert(secret, "no random bytes")),
    vary = assert(lrucache.new(conf.cache_size)),
    answers = assert(lrucache.new(conf.cache_size)),
  }
end


local function place(memory, asked)
  return memory.hmac(joined({ asked.method, asked.host, asked.path }))
end


-- The names of all header lines, each with how often it comes.
local function names_of(headers)
  local parts = sorted(headers)
  for n, name in ipairs(parts) do
    local value = rawget(headers, name)
    parts[n] = name .. " " .. (type(value) == "table" and #value or 1)
  end
  return joined(parts)
end


local function key(memory, at, asked, vary)
  local parts = { at, names_of(asked.headers) }
  for _, name in ipairs(vary) do
    parts[#parts + 1] = name
    parts[#parts + 1] = lines(rawget(asked.headers, name))
  end
  return memory.hmac(joined(parts))
end


-- The answer to an equal question, where one is remembered.
function _M.recall(conf, asked)
  local memory = memories[conf]
  if not memory then
    return nil
  end
  local at = place(memory, asked)
  local vary = memory.vary:get(at)
  local kept = vary and memory.answers:get(key(memory, at, asked, vary))
  local now = ngx.now()
  if kept and kept.since <= now and now < kept.ends then
    return kept.found
  end
  return nil
end


-- Remembers an answer to a question put at `since`, as far as its hint goes.
function _M.keep(conf, asked, found, since)
  if not conf.cache or not found.hint or #(found.body or "") > MAX_BODY then
    return
  end
  local memory = memories[conf] or made(conf)
  memories[conf] = memory
  local at = place(memory, asked)
  local all = {}
  for _, name in ipairs(memory.vary:get(at) or {}) do
    all[name] = true
  end
  for _, name in ipairs(found.hint.vary) do
    all[name] = true
  end
  local vary = sorted(all)
  if #vary > MAX_VARY then
    return
  end
  local ends = since + found.hint.seconds
  memory.vary:set(at, vary)
  memory.answers:set(key(memory, at, asked, vary), { found = found, since = since, ends = ends })
end


return _M

-- An answer of portcullis, taken apart. Whatever is not as documented makes it no answer at all.

local cjson = require "cjson.safe"

local find = string.find
local floor = math.floor
local ipairs = ipairs
local lower = string.lower
local min = math.min
local pairs = pairs
local type = type

local NULL = cjson.null

-- How long an answer may be remembered, in seconds, whatever it says itself.
local MAX_FOR = 30

local NAME = "^[!#$%%&'*+%-.^_`|~%w]+$"

-- What belongs to this one connection, or names the route: not an answer's to change.
local FRAMING = {
  ["connection"] = true, ["content-length"] = true, ["host"] = true, ["keep-alive"] = true, ["te"] = true, ["trailer"] = true,
  ["transfer-encoding"] = true, ["upgrade"] = true,
}

local _M = {}


-- A member that may be absent; of another type it is an error.
local function optional(value, kind, what)
  if value == nil or value == NULL then
    return nil
  end
  if type(value) ~= kind then
    error(what .. " is no " .. kind, 0)
  end
  return value
end


local function required(value, kind, what)
  if type(value) ~= kind then
    error(what .. " is no " .. kind, 0)
  end
  return value
end


local function list(value, what)
  local length = #required(value, "table", what)
  local count = 0
  for _ in pairs(value) do
    count = count + 1
  end
  if count ~= length then
    error(what .. " is no list", 0)
  end
  for _, each in ipairs(value) do
    required(each, "string", what)
  end
  return value
end


local function header_name(name, what)
  if type(name) ~= "string" or not find(name, NAME) or FRAMING[lower(name)] then
    error(what .. " holds a name that it must not", 0)
  end
  return lower(name)
end


local function header_value(value, what)
  for _, each in ipairs(type(value) == "table" and list(value, what) or { value }) do
    if find(required(each, "string", what), "[%z\1-\8\10-\31\127]") then
      error(what .. " holds a control character", 0)
    end
  end
  return value
end


-- Header lines by name in lower case: a value each, or a list of them.
local function headers(value, what)
  local found = {}
  for name, each in pairs(required(value, "table", what)) do
    found[header_name(name, what)] = header_value(each, what)
  end
  return found
end


-- What an answer depends on besides method, host and path: headers by name in lower case; `:names`, of which memory.lua makes
-- part of every key anyhow, stands for the names of all.
local function vary_of(value)
  local found = {}
  for _, name in ipairs(list(value, "cache.vary")) do
    if name ~= ":names" then
      if not find(name, NAME) then
        error("cache.vary holds no name", 0)
      end
      found[#found + 1] = lower(name)
    end
  end
  return found
end


local function names(value, what)
  local found = {}
  for n, name in ipairs(list(value, what)) do
    found[n] = header_name(name, what)
  end
  return found
end


-- Changes of the query: parameters to set and to remove.
local function query(value)
  local found = { set = {}, remove = {} }
  if optional(value, "table", "query") then
    for name, each in pairs(optional(value.set, "table", "query.set") or {}) do
      found.set[required(name, "string", "query.set")] = required(each, "string", "query.set")
    end
    found.remove = list(optional(value.remove, "table", "query.remove") or {}, "query.remove")
  end
  return found
end


-- Who acts: the user, else the workload, else the application; nil where nobody is told.
local function acting(value)
  local caller = optional(value, "table", "caller")
  if not caller then
    return nil
  end
  for _, slot in ipairs({ "user", "workload", "app" }) do
    local who = optional(caller[slot], "table", "caller." .. slot)
    if who then
      return {
        slot = slot,
        issuer = required(who.issuer, "string", "caller's issuer"),
        subject = required(who.subject, "string", "caller's subject"),
        roles = list(optional(who.roles, "table", "caller's roles") or {}, "caller's roles"),
      }
    end
  end
  return nil
end


-- For how many seconds, and depending on which headers, the answer holds; nil where it may not be remembered.
local function hint(value)
  local cache = optional(value, "table", "cache")
  local seconds = cache and cache["for"]
  if type(seconds) ~= "number" or seconds ~= seconds or seconds <= 0 or type(cache.vary) ~= "table" then
    return nil
  end
  local ok, vary = pcall(vary_of, cache.vary)
  return ok and { seconds = min(seconds, MAX_FOR), vary = vary } or nil
end


local function allowed(said)
  local edits = required(said.headers, "table", "headers")
  local response = optional(said.response, "table", "response") or {}
  return {
    set = headers(edits.set, "headers.set"),
    remove = names(edits.remove, "headers.remove"),
    query = query(said.query),
    response = headers(response.headers or {}, "response.headers"),
    acting = acting(said.caller),
    hint = hint(said.cache),
    allow = true,
  }
end


local function denied(said)
  local status = required(said.status, "number", "status")
  if status ~= floor(status) or status < 300 or status > 599 then
    error("status is none of a denial", 0)
  end
  local response = required(said.response, "table", "response")
  return {
    allow = false,
    status = status,
    headers = headers(response.headers, "response.headers"),
    body = optional(response.body, "string", "response.body") or "",
    hint = hint(said.cache),
  }
end


local function read(status, body)
  local said = required(cjson.decode(body), "table", "the answer")
  if said.verdict == "deny" and (status == 200 or status == 400) then
    return denied(said)
  elseif said.verdict == "allow" and status == 200 then
    return allowed(said)
  end
  error("status " .. status .. " without a verdict", 0)
end


-- What portcullis decided; else nil and what is wrong with the answer. It says nothing of what the answer holds.
function _M.read(status, body)
  local ok, found = pcall(read, status, body)
  if not ok then
    return nil, found
  end
  return found
end


return _M

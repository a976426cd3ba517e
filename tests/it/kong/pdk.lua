-- Stands in for Kong 3.9 where Kong is not to be had: only those calls of the plugin development kit that the plugin makes, each
-- as documented, with the phases it may be made in and the limits it has. Any other name is an error. Around the plugin it does
-- what Kong does around one: a coroutine of its own, a response that waits until it has ended, and after it the removal of what
-- the caller's Connection lines name, as they stood before the plugin.

local cjson = require "cjson.safe"

local MAX_HEADERS = 1000

local _M = {}

local config


-- A table in which every name that is not there is an error.
local function strict(name, fields)
  return setmetatable(fields, {
    __index = function(_, key)
      error(name .. "." .. tostring(key) .. " is not among the documented calls that this stand-in knows", 2)
    end,
    __newindex = function(_, key)
      error(name .. "." .. tostring(key) .. " is not the plugin's to set", 2)
    end,
  })
end


local function only_in(...)
  local phases = { ... }
  local now = ngx.ctx.phase
  for _, phase in ipairs(phases) do
    if phase == now then
      return
    end
  end
  error("function cannot be called in " .. tostring(now) .. " phase (only in: " .. table.concat(phases, ", ") .. ")", 3)
end


local function checked_header(name, value)
  if type(name) ~= "string" then
    error("invalid header name: got " .. type(name) .. ", expected string", 3)
  end
  for _, each in ipairs(type(value) == "table" and value or { value }) do
    if type(each) ~= "string" and (type(value) == "table" or type(each) ~= "number" and type(each) ~= "boolean") then
      error("invalid header value for " .. name .. ": got " .. type(each), 3)
    end
  end
  if value == nil then
    error("invalid header value for " .. name .. ": got nil", 3)
  end
end


-- Kong sends an empty value as one blank, for nginx would drop the line.
local function normalized(value)
  if type(value) == "table" then
    local values = {}
    for n, each in ipairs(value) do
      values[n] = each == "" and " " or each
    end
    return values
  end
  return value == "" and " " or tostring(value)
end


local request = strict("kong.request", {
  get_method = function()
    only_in("access", "header_filter")
    return ngx.req.get_method()
  end,
  -- The host of the request line, else of the Host line; in lower case, without port.
  get_host = function()
    only_in("access", "header_filter")
    return ngx.var.host
  end,
  get_path_with_query = function()
    only_in("access", "header_filter")
    return ngx.var.request_uri or ""
  end,
  get_raw_query = function()
    only_in("access", "header_filter")
    return ngx.var.args or ""
  end,
  get_http_version = function()
    only_in("access", "header_filter")
    return ngx.req.http_version()
  end,
  get_header = function(name)
    only_in("access", "header_filter")
    local value = ngx.req.get_headers()[name]
    return type(value) == "table" and value[1] or value
  end,
  get_headers = function(max)
    only_in("access", "header_filter")
    if max == nil then
      return ngx.req.get_headers()
    end
    if type(max) ~= "number" or max < 1 or max > MAX_HEADERS then
      error("max_headers must be a number from 1 to " .. MAX_HEADERS, 2)
    end
    return ngx.req.get_headers(max)
  end,
})


local service_request = strict("kong.service.request", {
  set_header = function(name, value)
    only_in("access")
    checked_header(name, value)
    ngx.req.set_header(name, normalized(value))
  end,
  clear_header = function(name)
    only_in("access")
    if type(name) ~= "string" then
      error("header must be a string", 2)
    end
    ngx.req.clear_header(name)
  end,
  set_raw_query = function(query)
    only_in("access")
    if type(query) ~= "string" then
      error("query must be a string", 2)
    end
    ngx.req.set_uri_args(query)
  end,
})


local response = strict("kong.response", {
  set_header = function(name, value)
    only_in("access", "header_filter")
    checked_header(name, value)
    ngx.header[name] = normalized(value)
  end,
  add_header = function(name, value)
    only_in("access", "header_filter")
    checked_header(name, value)
    local values = ngx.header[name]
    values = type(values) == "table" and values or { values }
    for _, each in ipairs(type(value) == "table" and value or { value }) do
      values[#values + 1] = normalized(each)
    end
    ngx.header[name] = values
  end,
  -- Never comes back: Kong lets the plugin's coroutine lie, and sends the response when it is its turn.
  exit = function(status, body, headers)
    only_in("access")
    if type(status) ~= "number" or status < 100 or status > 599 then
      error("code must be a number between 100 and 599", 2)
    end
    if body ~= nil and type(body) ~= "string" and type(body) ~= "table" then
      error("body must be a nil, string or table", 2)
    end
    if headers ~= nil and type(headers) ~= "table" then
      error("headers must be a nil or table", 2)
    end
    for name, value in pairs(headers or {}) do
      checked_header(name, value)
    end
    ngx.ctx.delayed = { status = status, body = body, headers = headers or {} }
    coroutine.yield()
  end,
})


local client = strict("kong.client", {
  get_forwarded_ip = function()
    only_in("access", "header_filter")
    return ngx.var.remote_addr
  end,
  get_consumer = function()
    only_in("access", "header_filter")
    return ngx.ctx.consumer
  end,
  get_credential = function()
    only_in("access", "header_filter")
    return ngx.ctx.credential
  end,
  authenticate = function(consumer, credential)
    only_in("access")
    if consumer ~= nil and type(consumer) ~= "table" then
      error("consumer must be a table or nil", 2)
    elseif credential ~= nil and type(credential) ~= "table" then
      error("credential must be a table or nil", 2)
    elseif consumer == nil and credential == nil then
      error("either credential or consumer must be provided", 2)
    end
    ngx.ctx.consumer, ngx.ctx.credential = consumer, credential
  end,
})


-- Tables that live as long as the request: one of the plugin's own, one for all plugins.
local ctx = setmetatable({}, {
  __index = function(_, key)
    if key ~= "plugin" and key ~= "shared" then
      error("kong.ctx." .. tostring(key) .. " is not among those that this stand-in knows", 2)
    end
    ngx.ctx[key] = ngx.ctx[key] or {}
    return ngx.ctx[key]
  end,
})


local function consumer_where(field)
  return function(_, value)
    if value == config.unreadable then
      return nil, "the database is away"
    end
    for _, consumer in ipairs(config.consumers or {}) do
      if consumer[field] == value then
        return consumer
      end
    end
    return nil
  end
end


local cached = {}

local cache = strict("kong.cache", {
  get = function(_, key, options, callback, ...)
    if type(key) ~= "string" or type(options) ~= "table" or type(callback) ~= "function" then
      error("key must be a string, options a table, callback a function", 2)
    end
    if cached[key] == nil then
      local value, err = callback(...)
      if err then
        return nil, err
      end
      cached[key] = value == nil and false or value
    end
    return cached[key] or nil
  end,
})


local function log(level)
  return function(...)
    ngx.log(level, "[portcullis] ", ...)
  end
end


-- Before any worker: the declarative file as JSON, its one portcullis plugin's configuration read by the schema.
function _M.init(path)
  local file = assert(io.open(path))
  config = assert(cjson.decode(file:read("*a")))
  file:close()
  rawset(_G, "kong", strict("kong", {
    request = request,
    service = strict("kong.service", { request = service_request }),
    response = response,
    client = client,
    ctx = ctx,
    cache = cache,
    db = strict("kong.db", {
      consumers = strict("kong.db.consumers", {
        select_by_username = consumer_where("username"),
        select_by_custom_id = consumer_where("custom_id"),
      }),
    }),
    log = strict("kong.log", { err = log(ngx.ERR), warn = log(ngx.WARN) }),
  }))
  for _, plugin in ipairs(config.plugins) do
    if plugin.name == "portcullis" then
      _M.conf = require("schema_reader").read(require "kong.plugins.portcullis.schema", plugin)
    end
  end
  _M.plugin = require "kong.plugins.portcullis.handler"
  assert(type(_M.plugin.PRIORITY) == "number" and _M.plugin.VERSION:find("^%d+%.%d+%.%d+$"), "PRIORITY and VERSION")
end


-- What a caller's Connection lines name is removed by Kong, as they stood before the plugins, first line only.
local function drop_hop_by_hop(before)
  local line = before["connection"]
  line = type(line) == "table" and line[1] or line
  for name in (line or ""):lower():gmatch("[^,]+") do
    name = name:match("^%s*(.-)%s*$")
    if name ~= "close" and name ~= "keep-alive" and name ~= "upgrade" and name ~= "" then
      ngx.req.clear_header(name)
    end
  end
end


function _M.access()
  ngx.ctx.phase = "access"
  local before = ngx.req.get_headers()
  local upgrade = before["upgrade"]
  local upgrades = type(upgrade) == "string" and upgrade:lower() == "websocket"
  ngx.var.upstream_connection = upgrades and "keep-alive, Upgrade" or "keep-alive"
  ngx.var.upstream_upgrade = upgrades and "websocket" or ""
  -- As a plugin before this one, such as Kong's `session`, may have left it.
  ngx.ctx.consumer, ngx.ctx.credential = config.already and config.already.consumer, config.already and config.already.credential
  local run = coroutine.create(_M.plugin.access)
  local ran, err = coroutine.resume(run, _M.plugin, _M.conf)
  local delayed = ngx.ctx.delayed
  if not ran then
    ngx.log(ngx.ERR, "the plugin threw: ", err)
    delayed = { status = 500, body = '{"message":"An unexpected error occurred"}', headers = {} }
  end
  if delayed then
    ngx.status = delayed.status
    for name, value in pairs(delayed.headers) do
      ngx.header[name] = normalized(value)
    end
    ngx.header["Content-Length"] = #(delayed.body or "")
    ngx.print(delayed.body or "")
    return ngx.exit(delayed.status)
  end
  -- So that a test sees what Kong's other plugins would.
  ngx.req.set_header("X-Kong-Sees", cjson.encode({
    consumer = ngx.ctx.consumer, credential = ngx.ctx.credential,
    groups = ngx.ctx.shared and ngx.ctx.shared.authenticated_groups,
  }))
  drop_hop_by_hop(before)
  local asked = ngx.var.request_uri
  local query = (asked:sub(-1) == "?" or ngx.var.is_args == "?") and "?" .. (ngx.var.args or "") or ""
  ngx.var.upstream_uri = asked:match("^[^?]*") .. query
end


function _M.header_filter()
  ngx.ctx.phase = "header_filter"
  _M.plugin:header_filter(_M.conf)
end


return _M

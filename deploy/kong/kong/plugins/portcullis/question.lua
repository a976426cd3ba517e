-- The request as the caller sent it, and the body of POST /v1/check that tells of it.

local cjson = require "cjson.safe"
local refusal = require "kong.plugins.portcullis.refusal"

local kong = kong
local ceil = math.ceil
local find = string.find
local gsub = string.gsub
local lower = string.lower
local match = string.match
local type = type

-- As many as Kong can be asked for; by default it stops at 100 and says nothing.
local MAX_HEADERS = 1000

local _M = {}


-- Host as nginx reads it for itself: lower case, without port and final dot.
local function bare(host)
  local name = lower(match(host, "^(%[[^%]]*%]):?%d*$") or gsub(host, ":%d*$", ""))
  return (gsub(name, "%.$", ""))
end


-- The request: method, host, path (with query, raw), headers (names in lower case), address, id; else nil and a denial.
function _M.read()
  local headers, err = kong.request.get_headers(MAX_HEADERS)
  if err then
    return nil, refusal.of(431)
  end
  -- The Host line, by which Kong chooses the route. It is ambiguous beside an absolute request line that names another.
  local host = headers["host"]
  if type(host) ~= "string" or bare(host) ~= bare(kong.request.get_host() or "") then
    return nil, refusal.of(400)
  end
  local asked = {
    method = kong.request.get_method(),
    host = host,
    path = kong.request.get_path_with_query(),
    headers = headers,
    address = kong.client.get_forwarded_ip(),
  }
  if not headers["x-request-id"] then
    asked.id = ngx.var.kong_request_id
  end
  return asked
end


function _M.encode(asked, conf)
  local headers = {}
  local lines = 0
  for name, value in pairs(asked.headers) do
    headers[name] = value
    lines = lines + (type(value) == "table" and #value or 1)
  end
  -- Not as line 1,001, which portcullis would refuse.
  if lines < MAX_HEADERS then
    headers["x-request-id"] = headers["x-request-id"] or asked.id
  end
  local source
  if asked.address and not find(asked.address, "[^%x:.]") then
    source = { address = asked.address }
  end
  return cjson.encode({
    method = asked.method,
    host = asked.host,
    path = asked.path,
    headers = headers,
    source = source,
    -- Sooner than the plugin's own deadline, so that a denial with its decision id is still heard.
    timeout_ms = ceil(conf.timeout * 0.9),
  })
end


return _M

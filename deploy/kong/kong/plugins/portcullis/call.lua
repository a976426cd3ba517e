-- One POST /v1/check over a connection that is kept. Every wait counts against one deadline, and everything read is bounded,
-- which resty.http offers for neither: its timeouts begin anew with each read, and it reads any Content-Length.

local address = require "kong.plugins.portcullis.address"

local ngx = ngx
local concat = table.concat
local find = string.find
local lower = string.lower
local match = string.match
local gmatch = string.gmatch
local sub = string.sub
local tonumber = tonumber
local setmetatable = setmetatable

local MAX_HEAD = 16 * 1024
local MAX_BODY = 1024 * 1024
-- A kept connection may have been closed by portcullis since: then the question was not read, and is put once more.
local TRIES = 3

local _M = {}

-- By configuration, which is a new table whenever it changes.
local addresses = setmetatable({}, { __mode = "k" })


local function address_of(conf)
  local to = addresses[conf]
  if not to then
    local err
    to, err = address.parse(conf.url)
    if not to then
      return nil, "url " .. err
    end
    to.name = conf.tls_server_name or to.host
    to.pool = concat({ "portcullis", conf.url, to.name, tostring(conf.tls_verify) }, "|")
    addresses[conf] = to
  end
  return to
end


-- Gives the socket what is left of the time; nil where none is left.
local function wait(sock, deadline)
  local left = (deadline - ngx.now()) * 1000
  if left < 1 then
    return nil, "timeout"
  end
  sock:settimeouts(left, left, left)
  return true
end


local function connect(sock, to, conf, deadline)
  local ok, err = wait(sock, deadline)
  if not ok then
    return nil, err
  end
  local options = { pool = to.pool }
  if to.port then
    ok, err = sock:connect(to.connect, to.port, options)
  else
    ok, err = sock:connect(to.connect, options)
  end
  if not ok then
    return nil, err
  end
  local reused = sock:getreusedtimes()
  if not reused then
    return nil, "closed"
  end
  if to.tls and reused == 0 then
    ok, err = wait(sock, deadline)
    if ok then
      ok, err = sock:sslhandshake(false, to.name, conf.tls_verify)
    end
    if not ok then
      return nil, err
    end
  end
  return reused > 0 and "reused" or "new"
end


-- Status, length of the body and whether the connection may be kept; else nil and what is wrong.
local function read_head(head)
  local status, lines = match(head, "^HTTP/1%.1 (%d%d%d)%f[ \r][^\r\n]*\r\n(.*)$")
  if not status then
    return nil, "no HTTP/1.1 answer"
  end
  local length, kept = nil, true
  local is_json = false
  for line in gmatch(lines, "([^\r\n]+)\r\n") do
    local name, value = match(line, "^([^%s:]+):[ \t]*(.-)[ \t]*$")
    if not name then
      return nil, "a malformed header line"
    end
    name = lower(name)
    if name == "content-length" then
      if length or not match(value, "^%d%d?%d?%d?%d?%d?%d?$") then
        return nil, "a malformed Content-Length"
      end
      length = tonumber(value)
    elseif name == "transfer-encoding" or name == "content-encoding" then
      return nil, "an encoded answer"
    elseif name == "content-type" then
      is_json = find(lower(value), "^application/json%f[;%z ]") ~= nil
    elseif name == "connection" and find(lower(value), "close", 1, true) then
      kept = false
    end
  end
  if not length or length > MAX_BODY then
    return nil, "an answer without a length, or too long"
  end
  if not is_json then
    return nil, "an answer of status " .. status .. " that is not JSON"
  end
  return tonumber(status), length, kept
end


-- Status, body and whether the connection may be kept; else nil, what is wrong and whether the connection was closed unanswered.
local function receive(sock, deadline)
  local buffer, status, length, kept, start = "", nil, nil, nil, nil
  local parts, count, size = {}, 0, 0
  while true do
    local ok, err = wait(sock, deadline)
    local data
    if ok then
      data, err = sock:receiveany(MAX_HEAD)
    end
    if not data then
      return nil, err, err == "closed" and size == 0
    end
    size = size + #data
    if not status then
      buffer = buffer .. data
      local _, stop = find(buffer, "\r\n\r\n", 1, true)
      if (stop or size) > MAX_HEAD then
        return nil, "too many header lines"
      end
      if stop then
        status, length, kept = read_head(sub(buffer, 1, stop - 2))
        if not status then
          return nil, length
        end
        start = stop
        parts, count = { sub(buffer, stop + 1) }, 1
      end
    else
      count = count + 1
      parts[count] = data
    end
    if status and size - start > length then
      return nil, "more than was announced"
    end
    if status and size - start == length then
      return status, concat(parts), kept
    end
  end
end


-- Status and body; else nil, what is wrong and whether the question may be put once more.
local function exchange(sock, to, conf, message, deadline)
  local made, err = connect(sock, to, conf, deadline)
  if not made then
    return nil, err
  end
  local ok
  ok, err = wait(sock, deadline)
  if ok then
    ok, err = sock:send(message)
  end
  if not ok then
    sock:close()
    return nil, err, made == "reused"
  end
  local status, body, more = receive(sock, deadline)
  if not status then
    sock:close()
    return nil, body, made == "reused" and more
  end
  if not more or conf.keepalive == 0 or not sock:setkeepalive(conf.keepalive, conf.keepalive_pool) then
    sock:close()
  end
  return status, body
end


-- Status and body of the answer to this question; else nil and what went wrong.
function _M.ask(conf, body)
  local to, err = address_of(conf)
  if not to then
    return nil, nil, err
  end
  local token = ""
  if conf.token then
    -- A reference that leads nowhere is the empty string.
    if not match(conf.token, "^[!-~]+$") then
      return nil, nil, "the token is empty, or no header can carry it"
    end
    token = "x-portcullis-token: " .. conf.token .. "\r\n"
  end
  local message = {
    "POST /v1/check HTTP/1.1\r\nhost: ", to.authority, "\r\ncontent-type: application/json\r\ncontent-length: ", #body, "\r\n",
    token, "\r\n", body,
  }
  ngx.update_time()
  local deadline = ngx.now() + conf.timeout / 1000
  local status, said, again
  for _ = 1, TRIES do
    status, said, again = exchange(ngx.socket.tcp(), to, conf, message, deadline)
    if status or not again then
      break
    end
  end
  if not status then
    return nil, nil, said
  end
  return status, said
end


return _M

-- Where portcullis listens: http://host[:port], https://host[:port] or unix:/path.

local find = string.find
local match = string.match
local tonumber = tonumber

local _M = {}

local PORTS = { http = 80, https = 443 }


-- A table of connect (host or unix:/path), port, authority, host, tls; else nil and what is wrong.
function _M.parse(url)
  if find(url, "[%c%s]") then
    return nil, "must hold no blanks"
  end
  local socket = match(url, "^unix:(/.+)$")
  if socket then
    return { connect = "unix:" .. socket, authority = "localhost", host = "localhost", tls = false }
  end
  local scheme, authority = match(url, "^(https?)://([^/?#@]+)/?$")
  if not scheme then
    return nil, "must be http://host[:port], https://host[:port] or unix:/path"
  end
  local host, port = match(authority, "^(%[[%x:.]+%]):?(%d*)$")
  if not host then
    host, port = match(authority, "^([^:%[%]]+):?(%d*)$")
  end
  if not host then
    return nil, "must name a host, and a port after one colon"
  end
  port = port == "" and PORTS[scheme] or tonumber(port)
  if port < 1 or port > 65535 then
    return nil, "must name a port from 1 to 65535"
  end
  return { connect = host, port = port, authority = authority, host = host, tls = scheme == "https" }
end


return _M

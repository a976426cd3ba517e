-- What a caller is told whose request does not pass.

local kong = kong
local find = string.find
local lower = string.lower

local TITLES = {
  [400] = { "Bad Request", "The request cannot be read one way only.", "3" },
  [431] = { "Request Header Fields Too Large", "The request has too many headers.", "3" },
  [503] = { "Service Unavailable", "No decision can be made right now.", "14" },
}

local PROBLEM = '{"type":"about:blank","title":"%s","status":%d,"detail":"%s"}'

local _M = {}


local function is_grpc()
  local kind = kong.request.get_header("content-type")
  return kong.request.get_http_version() == 2 and kind ~= nil and find(lower(kind), "application/grpc", 1, true) == 1
end


-- A denial of the plugin's own: 400, 431 or 503, as portcullis itself would word it.
function _M.of(status)
  local said = TITLES[status]
  if is_grpc() then
    return { status = status, headers = { ["grpc-status"] = said[3], ["cache-control"] = "no-store" }, body = said[2] }
  end
  return {
    status = status,
    headers = {
      ["content-type"] = "application/problem+json",
      ["cache-control"] = "no-store",
      ["x-content-type-options"] = "nosniff",
    },
    body = PROBLEM:format(said[1], status, said[2]),
  }
end


-- Ends the request with this denial. A caller of a gRPC method is told in gRPC's own way: HTTP 200, and the status in a header.
function _M.tell(denied)
  if denied.headers["grpc-status"] and is_grpc() then
    local message = ngx.escape_uri(denied.body)
    return kong.response.exit(200, nil, {
      ["content-type"] = "application/grpc",
      ["grpc-status"] = denied.headers["grpc-status"],
      ["grpc-message"] = message,
    })
  end
  return kong.response.exit(denied.status, denied.body, denied.headers)
end


return _M

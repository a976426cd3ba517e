-- Makes an allowed request ready for the application: headers, query, and who calls, for Kong's own plugins.

local refusal = require "kong.plugins.portcullis.refusal"

local kong = kong
local concat = table.concat
local find = string.find
local gmatch = string.gmatch
local gsub = string.gsub
local ipairs = ipairs
local lower = string.lower
local match = string.match
local ngx = ngx
local pairs = pairs
local type = type

-- How long a consumer that was looked up is believed, in seconds.
local CONSUMER_TTL = 30

local _M = {}


-- Applications that make variables of headers (CGI, WSGI, PHP) take all spellings of one canonical form for the same.
local function canonical(name)
  return (gsub(lower(name), "[^%w]", "-"))
end


-- What Kong's plugins tell applications about the caller.
local function is_identity(form)
  return find(form, "^x%-consumer%-") or find(form, "^x%-credential%-") or find(form, "^x%-authenticated%-")
    or form == "x-anonymous-consumer"
end


-- The canonical forms of the headers that this answer sets.
local function forms_of(found)
  local forms = {}
  for name in pairs(found.set) do
    forms[canonical(name)] = true
  end
  return forms
end


-- Kong removes, after all plugins, what the caller's Connection lines name. One that names a header which says who the caller
-- is would take it away from the application.
function _M.refused(asked, found)
  local lines = asked.headers["connection"]
  if lines then
    local forms = forms_of(found)
    for name in gmatch(type(lines) == "table" and concat(lines, ",") or lines, "[^,%s]+") do
      local form = canonical(name)
      if forms[form] or is_identity(form) then
        return refusal.of(400)
      end
    end
  end
  return nil
end


-- The query without the parameters that are removed or set anew, the others byte for byte as they came.
local function edit_query(changes)
  if not changes.remove[1] and not next(changes.set) then
    return
  end
  local gone = {}
  for _, name in ipairs(changes.remove) do
    gone[name] = true
  end
  for name in pairs(changes.set) do
    gone[name] = true
  end
  local kept = {}
  for pair in gmatch(kong.request.get_raw_query(), "[^&]+") do
    local name = match(pair, "^[^=]*")
    if not gone[name] and not gone[ngx.unescape_uri(name)] then
      kept[#kept + 1] = pair
    end
  end
  for name, value in pairs(changes.set) do
    kept[#kept + 1] = ngx.escape_uri(name) .. "=" .. ngx.escape_uri(value)
  end
  kong.service.request.set_raw_query(concat(kept, "&"))
end


-- The Consumer whose username or custom_id is this caller's subject; nil where there is none.
local function consumer_of(conf, acting)
  if not conf.consumer_by or acting.slot ~= "user" or acting.issuer ~= conf.consumer_issuer then
    return nil
  end
  local by = conf.consumer_by
  local key = concat({ "portcullis", by, acting.subject }, ":")
  local consumer, err = kong.cache:get(key, { ttl = CONSUMER_TTL, neg_ttl = CONSUMER_TTL }, function()
    if by == "username" then
      return kong.db.consumers:select_by_username(acting.subject)
    end
    return kong.db.consumers:select_by_custom_id(acting.subject)
  end)
  if err then
    error("the consumer could not be looked up: " .. err, 0)
  end
  return consumer
end


local function tell_identity(name, value)
  if value then
    kong.service.request.set_header(name, value)
  end
end


-- Names the caller to Kong: its consumer where one is mapped, always a credential of its own, and its roles as groups.
local function introduce(conf, acting)
  local consumer, credential = kong.client.get_consumer(), kong.client.get_credential()
  if acting then
    consumer = consumer_of(conf, acting)
    credential = { id = concat({ acting.slot, acting.issuer, ngx.escape_uri(acting.subject) }, ":") }
    if consumer then
      credential.consumer = { id = consumer.id }
      credential.consumer_id = consumer.id
    end
    kong.client.authenticate(consumer, credential)
    local groups = {}
    for n, role in ipairs(acting.roles) do
      groups[n] = role
    end
    kong.ctx.shared.authenticated_groups = groups
  end
  if consumer then
    tell_identity("X-Consumer-ID", consumer.id)
    tell_identity("X-Consumer-Custom-ID", consumer.custom_id)
    tell_identity("X-Consumer-Username", consumer.username)
  end
  if credential then
    tell_identity("X-Credential-Identifier", credential.id)
  elseif consumer then
    tell_identity("X-Anonymous-Consumer", "true")
  end
end


-- Throws where any of it cannot be done: then the request must not pass.
function _M.apply(conf, asked, found)
  local forms = forms_of(found)
  for name in pairs(asked.headers) do
    local form = canonical(name)
    if forms[form] or is_identity(form) then
      kong.service.request.clear_header(name)
    end
  end
  for _, name in ipairs(found.remove) do
    kong.service.request.clear_header(name)
  end
  introduce(conf, found.acting)
  for name, value in pairs(found.set) do
    kong.service.request.set_header(name, value)
  end
  if asked.id then
    kong.service.request.set_header("X-Request-ID", asked.id)
  end
  edit_query(found.query)
end


return _M

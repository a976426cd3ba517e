-- Asks portcullis about every request before any plugin that reads a credential, and lets pass only what it allows.

local question = require "kong.plugins.portcullis.question"
local call = require "kong.plugins.portcullis.call"
local answer = require "kong.plugins.portcullis.answer"
local grant = require "kong.plugins.portcullis.grant"
local memory = require "kong.plugins.portcullis.memory"
local refusal = require "kong.plugins.portcullis.refusal"

local kong = kong
local pcall = pcall

local Portcullis = {
  -- Below session (1900), cors (2000) and acme (1705), which answer for themselves; above every other plugin that reads a
  -- credential (oauth2-introspection 1700, mtls-auth 1600, jwt 1450 …), above acl (950) and rate-limiting (910), which use what
  -- this one finds out, and above request-transformer (801), so that portcullis judges what the caller sent.
  PRIORITY = 1702,
  VERSION = "0.1.0",
}


-- What portcullis says about this request: an answer, or nil and why there is none.
local function verdict(conf, asked)
  local remembered = memory.recall(conf, asked)
  if remembered then
    return remembered
  end
  local since = ngx.now()
  local body, err = question.encode(asked, conf)
  if not body then
    return nil, err
  end
  local status, said
  status, said, err = call.ask(conf, body)
  if not status then
    return nil, err
  end
  local found
  found, err = answer.read(status, said)
  if not found then
    return nil, err
  end
  memory.keep(conf, asked, found, since)
  return found
end


-- true where the request may pass, and is made ready to: only the last line says so. Else nil and what the caller is told instead.
local function judged(conf)
  local asked, refused = question.read()
  if not asked then
    return nil, refused
  end
  local found, err = verdict(conf, asked)
  if not found then
    kong.log.err("no decision: ", err)
    return nil, refusal.of(503)
  end
  if not found.allow then
    return nil, found
  end
  refused = grant.refused(asked, found)
  if refused then
    return nil, refused
  end
  grant.apply(conf, asked, found)
  kong.ctx.plugin.response = found.response
  return true
end


function Portcullis:access(conf)
  local ran, passes, denied = pcall(judged, conf)
  if ran and passes == true then
    return
  end
  if not ran then
    kong.log.err("no decision: ", passes)
  end
  return refusal.tell(denied or refusal.of(503))
end


-- Here and not in the access phase, where the application's own lines of the same name would come beside these.
function Portcullis:header_filter()
  local response = kong.ctx.plugin.response
  if response then
    for name, value in pairs(response) do
      if name == "set-cookie" then
        kong.response.add_header(name, value)
      else
        kong.response.set_header(name, value)
      end
    end
  end
end


return Portcullis

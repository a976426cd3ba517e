-- Asks Portcullis about the request at hand. HAProxy 2.6 or later: `lua-load-per-thread portcullis.lua`, then in the frontend
-- `http-request lua.portcullis URL TIMEOUT_MS`, the `http-request deny` after it, and `http-response lua.portcullis-response`.
--
-- On an allow it changes the request as Portcullis says and sets txn.portcullis to "allow"; a denial is answered as Portcullis
-- says it. Whatever else happens leaves txn.portcullis as it is, and the `http-request deny` answers.

local PATH = "/forward/haproxy"
local RESPONSE = "x-portcullis-response-"

-- They belong to a connection or to one message, and are not the caller's to tell.
local HOP = {
    ["connection"] = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true,
    ["transfer-encoding"] = true, ["content-length"] = true, ["host"] = true, ["expect"] = true,
}

-- HAProxy counts the lines of a header from 0.
local function first(headers, name)
    local lines = headers and headers[name]
    return lines and lines[0]
end

-- HAProxy 2.6 ends with a fault where its own client is to send more than 101 lines (tune.http.maxhdr): with those that are added here
-- and by the client a caller may have this many.
local MOST = 90

local function begins(text, beginning)
    return string.sub(text, 1, #beginning) == beginning
end

local function question(txn)
    local asked = {}
    local count = 0
    for name, values in pairs(txn.http:req_get_headers()) do
        if not HOP[name] and not begins(name, "x-original-") then
            local lines = {}
            for index = 0, #values do
                lines[#lines + 1] = values[index]
            end
            asked[name] = lines
            count = count + #lines
        end
    end
    if count > MOST then
        return nil
    end
    asked["x-original-method"] = { txn.sf:method() }
    asked["x-original-uri"] = { txn.sf:pathq() }
    asked["x-original-host"] = { txn.sf:req_fhdr("host") }
    asked["x-original-address"] = { txn.sf:src() }
    return asked
end

local function allow(txn, told)
    for name in string.gmatch(first(told, "x-portcullis-remove") or "", "[^,%s]+") do
        txn.http:req_del_header(name)
    end
    for name in string.gmatch(first(told, "x-portcullis-set") or "", "[^,%s]+") do
        local value = first(told, name)
        if not value then
            return
        end
        txn.http:req_set_header(name, value)
    end
    local later = {}
    for name in pairs(told) do
        if begins(name, RESPONSE) then
            later[string.sub(name, #RESPONSE + 1)] = first(told, name)
        end
    end
    txn:set_priv(later)
    txn:set_var("txn.portcullis", "allow")
end

local function deny(txn, answer)
    local reply = txn:reply({ status = answer.status, reason = answer.reason, body = answer.body or "" })
    for name, values in pairs(answer.headers) do
        if not HOP[name] then
            for index = 0, #values do
                reply:add_header(name, values[index])
            end
        end
    end
    txn:done(reply)
end

core.register_action("portcullis", { "http-req" }, function(txn, url, timeout)
    local asked = question(txn)
    if not asked then
        txn:done(txn:reply({ status = 431, headers = { ["cache-control"] = { "no-store" } } }))
        return
    end
    local answer = core.httpclient():get({ url = url .. PATH, headers = asked, timeout = tonumber(timeout) })
    -- HAProxy's own answer for one that did not come, and those of others, have no such header.
    if not first(answer.headers, "x-portcullis-decision") then
        return
    end
    if answer.status == 200 then
        allow(txn, answer.headers)
    elseif answer.status >= 300 then
        deny(txn, answer)
    end
end, 2)

core.register_action("portcullis-response", { "http-res" }, function(txn)
    for name, value in pairs(txn:get_priv() or {}) do
        txn.http:res_set_header(name, value)
    end
end, 0)

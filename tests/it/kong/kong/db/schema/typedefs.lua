-- The two definitions of Kong's that the plugin's schema names.
return setmetatable({
  no_consumer = { type = "foreign", reference = "consumers" },
  protocols_http = { type = "set", required = true, default = { "grpc", "grpcs", "http", "https" } },
}, {
  __index = function(_, name)
    error("typedefs." .. name .. " is not known to this stand-in")
  end,
})

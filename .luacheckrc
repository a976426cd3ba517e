std = "ngx_lua"
globals = { "kong" }
self = false
max_line_length = 140

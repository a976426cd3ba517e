-- luarocks make, in this directory.
package = "kong-plugin-portcullis"
version = "0.1.0-1"
rockspec_format = "3.0"
supported_platforms = { "linux", "macosx" }
source = {
  url = "git+https://github.com/portcullis-authz/portcullis.git",
  tag = "v0.1.0",
  dir = "portcullis/deploy/kong",
}
description = {
  summary = "Kong asks portcullis whether each request may pass, and as whom.",
  homepage = "https://github.com/portcullis-authz/portcullis",
  license = "Apache-2.0",
}
dependencies = {
  "lua >= 5.1",
}
build = {
  type = "builtin",
  modules = {
    ["kong.plugins.portcullis.address"] = "kong/plugins/portcullis/address.lua",
    ["kong.plugins.portcullis.answer"] = "kong/plugins/portcullis/answer.lua",
    ["kong.plugins.portcullis.call"] = "kong/plugins/portcullis/call.lua",
    ["kong.plugins.portcullis.grant"] = "kong/plugins/portcullis/grant.lua",
    ["kong.plugins.portcullis.handler"] = "kong/plugins/portcullis/handler.lua",
    ["kong.plugins.portcullis.memory"] = "kong/plugins/portcullis/memory.lua",
    ["kong.plugins.portcullis.question"] = "kong/plugins/portcullis/question.lua",
    ["kong.plugins.portcullis.refusal"] = "kong/plugins/portcullis/refusal.lua",
    ["kong.plugins.portcullis.schema"] = "kong/plugins/portcullis/schema.lua",
  },
}

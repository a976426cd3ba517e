-- The plugin's configuration.

local typedefs = require "kong.db.schema.typedefs"
local address = require "kong.plugins.portcullis.address"

return {
  name = "portcullis",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { url = {
              description = "Where portcullis listens for HTTP: http://host[:port], https://host[:port] or unix:/path.",
              type = "string",
              required = true,
              custom_validator = function(url)
                local found, err = address.parse(url)
                return found and true, err
              end,
          } },
          { token = {
              description = "The token by which the policy's `gateways:` knows this gateway.",
              type = "string",
              len_min = 32,
              referenceable = true,
              encrypted = true,
          } },
          { timeout = {
              description = "How long a decision may take altogether, in milliseconds. After it the request is denied with 503.",
              type = "integer",
              default = 200,
              between = { 1, 5000 },
              required = true,
          } },
          { tls_verify = {
              description = "Whether the certificate at an https URL must be valid, against lua_ssl_trusted_certificate.",
              type = "boolean",
              default = true,
              required = true,
          } },
          { tls_server_name = {
              description = "The name that the certificate must hold, where it is another than the URL's host.",
              type = "string",
          } },
          { keepalive = {
              description = "How long an idle connection to portcullis is kept, in milliseconds; 0 keeps none.",
              type = "integer",
              default = 55000,
              between = { 0, 3600000 },
              required = true,
          } },
          { keepalive_pool = {
              description = "How many idle connections each worker keeps.",
              type = "integer",
              default = 64,
              between = { 1, 10000 },
              required = true,
          } },
          { cache = {
              description = "Whether answers are remembered that say they may be, which they do only where the policy asks for it.",
              type = "boolean",
              default = true,
              required = true,
          } },
          { cache_size = {
              description = "How many answers each worker remembers.",
              type = "integer",
              default = 1000,
              between = { 1, 100000 },
              required = true,
          } },
          { consumer_by = {
              description = "By which of its fields a Kong Consumer is found whose value is the caller's subject.",
              type = "string",
              one_of = { "custom_id", "username" },
          } },
          { consumer_issuer = {
              description = "The issuer, by its name in the policy, whose subjects are Consumers: no other's can become one.",
              type = "string",
          } },
        },
    } },
  },
  entity_checks = {
    { mutually_required = { "config.consumer_by", "config.consumer_issuer" } },
  },
}

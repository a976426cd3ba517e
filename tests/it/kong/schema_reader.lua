-- Reads a plugin's configuration by its schema, as Kong 3.9 would: only attributes of a field that Kong's schema of schemas knows,
-- no field that the schema lacks, defaults filled in.

local TYPES = { string = "string", boolean = "boolean", integer = "number", number = "number" }
local ATTRIBUTES = {
  type = "string", required = "boolean", description = "string", referenceable = "boolean", encrypted = "boolean",
  between = "table", one_of = "table", len_min = "number", custom_validator = "function", default = "any",
}

local _M = {}


local function checked(name, field, value)
  local function must(condition, what)
    if not condition then
      error("config." .. name .. ": " .. what, 0)
    end
  end
  must(TYPES[field.type], "a type that the schema cannot have")
  must(type(field.description) == "string" and #field.description >= 10 and #field.description <= 500, "no description")
  for attribute, set in pairs(field) do
    local kind = ATTRIBUTES[attribute]
    must(kind == "any" or kind and type(set) == kind, "an attribute that Kong does not know: " .. attribute)
  end
  if value == nil then
    value = field.default
  end
  if value == nil then
    must(not field.required, "required field missing")
    return nil
  end
  must(type(value) == TYPES[field.type], "expected a " .. field.type)
  if field.referenceable and value:find("^{vault://.+}$") then
    -- {vault://env/some-name} is the environment's SOME_NAME.
    return os.getenv(value:match("^{vault://env/(.+)}$"):upper():gsub("-", "_")) or ""
  end
  if field.type == "integer" then
    must(value == math.floor(value), "expected an integer")
  end
  if field.type == "string" then
    must(#value >= (field.len_min or 1), "length must be at least " .. (field.len_min or 1))
  end
  if field.between then
    must(value >= field.between[1] and value <= field.between[2], "out of range")
  end
  if field.one_of then
    local found = false
    for _, each in ipairs(field.one_of) do
      found = found or each == value
    end
    must(found, "expected one of " .. table.concat(field.one_of, ", "))
  end
  if field.custom_validator then
    local ok, err = field.custom_validator(value)
    must(ok, err)
  end
  return value
end


function _M.read(schema, plugin)
  assert(schema.name == plugin.name, "the schema's name is the plugin's")
  local record
  for _, field in ipairs(schema.fields) do
    record = field.config or record
  end
  assert(record and record.type == "record", "config is a record")
  local conf, known = {}, {}
  for _, field in ipairs(record.fields) do
    local name, attributes = next(field)
    assert(next(field, name) == nil and not known[name], "one new name a field")
    known[name] = true
    conf[name] = checked(name, attributes, (plugin.config or {})[name])
  end
  for name in pairs(plugin.config or {}) do
    if not known[name] then
      error("config." .. name .. ": unknown field", 0)
    end
  end
  for _, check in ipairs(schema.entity_checks) do
    local names, set = assert(check.mutually_required, "a check that this reader does not know"), 0
    for _, name in ipairs(names) do
      local field = name:match("^config%.(.+)$")
      assert(known[field], "a check of a field that is not there")
      set = set + (conf[field] ~= nil and 1 or 0)
    end
    if set ~= 0 and set ~= #names then
      error("all or none of these fields must be set: " .. table.concat(names, ", "), 0)
    end
  end
  return conf
end


return _M

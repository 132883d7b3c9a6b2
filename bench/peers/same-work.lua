-- The work of the sidecar, as somebody would write it by hand for nginx: the user is taken from headers, the JSON body
-- is decoded, the tool is held against twenty rules, two sliding windows are drawn from, and a redacted JSON line is
-- written for the call. There is no strict parser, no message of its own for a refusal, no chain and no metrics.
local cjson = require "cjson.safe"
local windows = ngx.shared.windows

local rules = {}
for i = 0, 18 do
  rules[#rules + 1] = { id = "team-" .. i, role = "team-" .. i, tool = "team" .. i .. "_" }
end
rules[#rules + 1] = { id = "readers", scope = "mcp.read", tool = "search_", most = 100 }

local limits = { { name = "1m", seconds = 60, limit = 100000000 }, { name = "1h", seconds = 3600, limit = 1000000000 } }
local secret = { "token", "password", "secret", "apikey", "api_key", "authorization", "cookie", "credential", "private_key" }

local function words(text)
  local set = {}
  for word in string.gmatch(text or "", "%S+") do
    set[word] = true
  end
  return set
end

local function refuse(status, reason)
  ngx.ctx.reason = reason
  return ngx.exit(status)
end

local function decide(tool, arguments, scopes, roles)
  for i = 1, #rules do
    local rule = rules[i]
    if
      (rule.role == nil or roles[rule.role])
      and (rule.scope == nil or scopes[rule.scope])
      and string.sub(tool, 1, #rule.tool) == rule.tool
      and (rule.most == nil or type(arguments.limit) ~= "number" or arguments.limit <= rule.most)
    then
      return rule.id
    end
  end
end

-- Two counters a window: the one before counts by the share of it that is still inside.
local function draw(user)
  local now = ngx.now()
  local left
  for i = 1, #limits do
    local window = limits[i]
    local at = math.floor(now / window.seconds)
    local key = window.name .. user .. ":"
    local before = windows:get(key .. (at - 1)) or 0
    local used = windows:incr(key .. at, 1, 0, window.seconds * 2)
    local inside = used + before * (1 - (now / window.seconds - at))
    if inside > window.limit then
      return nil
    end
    left = window.limit - inside
  end
  return left
end

local function redact(value)
  if type(value) ~= "table" then
    return value
  end
  local out = {}
  for name, member in pairs(value) do
    local lower = string.lower(name)
    local hidden = false
    for i = 1, #secret do
      if string.find(lower, secret[i], 1, true) then
        hidden = true
        break
      end
    end
    out[name] = hidden and "[redacted]" or redact(member)
  end
  return out
end

local M = {}

function M.check()
  local ctx = ngx.ctx
  local headers = ngx.req.get_headers()
  local user = headers["x-user-id"]
  if type(user) ~= "string" then
    return refuse(401, "user_missing")
  end
  local body = ngx.req.get_body_data()
  local message = body and cjson.decode(body)
  if type(message) ~= "table" or message.method ~= "tools/call" or type(message.params) ~= "table" then
    return refuse(400, "message_invalid")
  end
  local arguments = message.params.arguments or {}
  ctx.user, ctx.org, ctx.message, ctx.arguments = user, headers["x-org-id"], message, arguments
  ctx.rule = decide(message.params.name, arguments, words(headers["x-user-scopes"]), words(headers["x-user-roles"]))
  if not ctx.rule then
    return refuse(403, "tool_not_permitted")
  end
  ctx.left = draw((ctx.org or "") .. "/" .. user)
  if not ctx.left then
    return refuse(429, "quota_exhausted")
  end
end

function M.record()
  local ctx = ngx.ctx
  local message = ctx.message or {}
  local line = {
    timestamp = ngx.utctime(),
    kind = "audit",
    event = "mcp.call",
    requestId = ngx.var.request_id,
    client = { address = ngx.var.remote_addr },
    peer = { subject = ngx.var.ssl_client_s_dn, serial = ngx.var.ssl_client_serial, tls = ngx.var.ssl_protocol },
    user = { id = ctx.user, org = ctx.org },
    mcp = { method = message.method, tool = message.params and message.params.name, rpcId = message.id },
    args = redact(ctx.arguments),
    decision = { rule = ctx.rule, reason = ctx.reason },
    quota = { remaining = ctx.left },
    status = tonumber(ngx.var.status),
    durationMs = tonumber(ngx.var.request_time) * 1000,
    bytesIn = tonumber(ngx.var.request_length),
    bytesOut = tonumber(ngx.var.body_bytes_sent),
  }
  ngx.var.audit = cjson.encode(line)
end

return M

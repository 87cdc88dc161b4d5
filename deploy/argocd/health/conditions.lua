-- Health of the kinds of weir.dev that people write, and of NodeDatapath: by the conditions Ready, Synced, Accepted,
-- Reconciling and Stalled, which are read as kstatus reads them.
local function message(condition)
  local text = condition.message or ""
  if text == "" then return condition.reason or "" end
  return text
end

local metadata = obj.metadata or {}
if metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "being deleted: waits until the router no longer has it" }
end
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
-- A condition that speaks of an older generation says nothing about this one.
local function current(condition)
  local seen = condition.observedGeneration or status.observedGeneration
  return seen == nil or metadata.generation == nil or seen >= metadata.generation
end
local function is(kind, value)
  local condition = conditions[kind]
  return condition ~= nil and condition.status == value and current(condition)
end

if is("Stalled", "True") then
  return { status = "Degraded", message = message(conditions.Stalled) }
end
if is("Accepted", "False") then
  return { status = "Degraded", message = message(conditions.Accepted) }
end
local ready = conditions.Ready
if ready == nil then
  -- A grant is a rule: nothing is done for it, and most of them are never spoken of.
  if obj.kind == "RouterGrant" then
    return { status = "Healthy", message = "a grant" }
  end
  if next(conditions) == nil then
    return { status = "Progressing", message = "no controller has looked at it yet" }
  end
  ready = conditions.Synced
  if ready == nil then return { status = "Progressing", message = "no verdict yet" } end
end
if not current(ready) then
  return { status = "Progressing", message = "the newest version was not looked at yet" }
end
if is("Reconciling", "True") then
  return { status = "Progressing", message = message(conditions.Reconciling) }
end
if ready.status == "True" then
  return { status = "Healthy", message = message(ready) }
end
-- Mode Observe does what it says.
if ready.reason == "Observed" then
  return { status = "Suspended", message = message(ready) }
end
if ready.status == "Unknown" then
  return { status = "Progressing", message = message(ready) }
end
return { status = "Degraded", message = message(ready) }

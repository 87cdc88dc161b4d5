-- Health of a RouterChange: a record that is written while a change is made.
local status = obj.status or {}
local text = status.message or status.phase or "planned"
if status.result == "Applied" then
  return { status = "Healthy", message = text }
elseif status.result == "Failed" then
  -- It was refused or undone: the router is as before, and the Router's own condition says what is missing.
  return { status = "Degraded", message = text }
elseif status.result == "Unknown" then
  return { status = "Progressing", message = text .. ": the next read of the router tells" }
end
return { status = "Progressing", message = text }

-- Health of an Application by the health of what it holds. Argo CD has none since 1.8; without it the waves of an
-- app-of-apps do not wait for one another.
local health = (obj.status or {}).health
if health == nil then
  return { status = "Progressing", message = "no health yet" }
end
return { status = health.status or "Progressing", message = health.message or "" }

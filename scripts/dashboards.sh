#!/usr/bin/env bash
# Show the demo in Prometheus, and in Grafana where it is installed, both on loopback. Ctrl-C ends all of it.
#
# Environment: PROMETHEUS_PORT (9090), GRAFANA_PORT (3000), DEMO_SECONDS (600).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PROMETHEUS=127.0.0.1:${PROMETHEUS_PORT:-9090}
readonly GRAFANA_PORT=${GRAFANA_PORT:-3000}
export DEMO_SECONDS=${DEMO_SECONDS:-600}
folder=$(mktemp -d)
started=()

# Ends only what was started here, in reverse order.
cleanup() {
  local i
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    kill "${started[$i]}" 2>/dev/null && wait "${started[$i]}" 2>/dev/null || true
  done
  rm -rf "$folder"
}
trap cleanup EXIT

start() {
  local log=$folder/$1.log
  shift
  "$@" >"$log" 2>&1 &
  started+=($!)
}

cat >"$folder/prometheus.yml" <<YAML
global: {scrape_interval: 2s, evaluation_interval: 5s}
rule_files: ["$PWD/dashboards/rules.yaml", "$PWD/dashboards/alerts.yaml"]
scrape_configs:
- job_name: demo
  file_sd_configs: [{files: ["$folder/targets.json"], refresh_interval: 2s}]
YAML
export DEMO_TARGETS=$folder/targets.json
start prometheus prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
  --web.listen-address="$PROMETHEUS" --log.level=warn
echo "dashboards: Prometheus on http://$PROMETHEUS (alerts: /alerts, targets: /targets)"

grafana=$(command -v grafana || command -v grafana-server || true)
home=/usr/share/grafana
if [ -n "$grafana" ] && [ -d $home ]; then
  mkdir -p "$folder"/provisioning/{datasources,dashboards,plugins,alerting}
  cat >"$folder/provisioning/datasources/demo.yaml" <<YAML
apiVersion: 1
datasources: [{name: demo, type: prometheus, access: proxy, url: "http://$PROMETHEUS", isDefault: true, jsonData: {timeInterval: 2s}}]
YAML
  cat >"$folder/provisioning/dashboards/weir.yaml" <<YAML
apiVersion: 1
providers: [{name: weir, type: file, options: {path: "$PWD/dashboards"}}]
YAML
  server=("$grafana")
  [ "$(basename "$grafana")" = grafana-server ] || server+=(server)
  start grafana env GF_PATHS_DATA="$folder/grafana" GF_PATHS_LOGS="$folder/grafana" \
    GF_PATHS_PROVISIONING="$folder/provisioning" GF_SERVER_HTTP_ADDR=127.0.0.1 GF_SERVER_HTTP_PORT="$GRAFANA_PORT" \
    GF_AUTH_ANONYMOUS_ENABLED=true GF_AUTH_ANONYMOUS_ORG_ROLE=Admin GF_ANALYTICS_REPORTING_ENABLED=false \
    "${server[@]}" --homepath $home
  echo "dashboards: Grafana on http://127.0.0.1:$GRAFANA_PORT/dashboards"
else
  echo "dashboards: Grafana is not installed; its dashboards are dashboards/*.json"
fi
target/debug/weir-demo

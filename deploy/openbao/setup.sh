#!/bin/sh
# Once, by an administrator of OpenBAO: policy, role, and a first key. Needs BAO_ADDR and BAO_TOKEN.
set -eu
bao policy write vyos-sync "$(dirname "$0")/policy.hcl"
bao write auth/kubernetes/role/vyos-sync \
  bound_service_account_names=vyos-sync bound_service_account_namespaces=weir-system \
  audience=openbao token_policies=vyos-sync token_ttl=1h token_max_ttl=24h
# The key is asked for, so that it is in no history.
printf 'API key of the router gateway: ' >&2
stty -echo && read -r key && stty echo
bao kv put -mount=secret weir/routers/gateway key="$key"

# What vyos-sync may read: the keys of routers and the passwords of BGP peers. KV version 2, mounted at `secret`.
path "secret/data/weir/routers/*" {
  capabilities = ["read"]
}
path "secret/data/weir/bgp/*" {
  capabilities = ["read"]
}
# Its own token.
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

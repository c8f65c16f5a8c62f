#!/bin/sh
# Installs whatever is missing, once and idempotently: npm packages (Node 26 among them), the
# distribution packages that Gantry runs on, and the models extracted from the API client.
# `./setup.sh test` adds what only the tests need.
set -eu
cd "$(dirname "$0")"
say() { printf '  %s\n' "$*"; }
fail() { printf '\nsetup: %s\n' "$*" >&2; exit 1; }

# --- distribution packages -------------------------------------------------------------------
wanted=''
need() { # need COMMAND-OR-FILE PACKAGE
  case "$1" in
    /*) [ -e "$1" ] || wanted="$wanted $2" ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || wanted="$wanted $2" ;;
  esac
}
need containerd containerd
need runc runc
need /usr/lib/cni/bridge containernetworking-plugins
need nft nftables
need ip iproute2
need conntrack conntrack
if ! command -v npm >/dev/null 2>&1; then need npm npm; fi
if [ "${1:-}" = test ]; then
  need etcd etcd-server
  need /bin/busybox busybox-static
  command -v kubectl >/dev/null 2>&1 || need kubectl kubernetes-client
fi
# The standard place for CNI plugins differs between distributions; either one will do.
[ -e /opt/cni/bin/bridge ] && wanted=$(printf '%s' "$wanted" | sed 's/ containernetworking-plugins//')

if [ -n "$wanted" ]; then
  [ "$(uname -s)" = Linux ] || fail "Gantry runs pods on Linux; this is $(uname -s). The API server alone (./gantry apiserver) needs only npm."
  command -v apt-get >/dev/null 2>&1 || fail "please install these with your package manager, then run this again:$wanted"
  as_root=''
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || fail "missing packages:$wanted. Run as root: apt-get install$wanted"
    as_root=sudo
  fi
  say "installing distribution packages:$wanted"
  log=$(mktemp)
  install_packages() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $wanted >"$log" 2>&1
  }
  if ! install_packages; then
    say 'refreshing the package lists'
    $as_root apt-get update >"$log" 2>&1 || { tail -5 "$log" >&2; fail 'the package lists cannot be refreshed: is there a network?'; }
    install_packages || { tail -5 "$log" >&2; fail "could not install:$wanted"; }
  fi
  rm -f "$log"
fi

# --- npm packages, Node 26 among them ----------------------------------------------------------
stamp=node_modules/.gantry-installed
if [ ! -e "$stamp" ] || [ package-lock.json -nt "$stamp" ]; then
  say 'installing npm packages (about half a minute)'
  log=$(mktemp)
  # Not "npm ci": it refuses a lock file that lacks other platforms' optional packages, which a
  # registry mirror may not have. This too installs the versions of the lock file.
  npm install --no-save --no-fund --no-audit >"$log" 2>&1 || { tail -20 "$log" >&2; fail 'npm install failed: is there a network?'; }
  rm -f "$log"
  touch "$stamp"
fi
node=node_modules/node/bin/node
if [ ! -x "$node" ]; then
  # npm may be told not to run install scripts; the binary is then still beside the package.
  found=$(find node_modules/node/node_modules -path '*/bin/node' -type f 2>/dev/null | head -1)
  [ -n "$found" ] || fail "the npm package 'node' brought no binary for $(uname -m)"
  mkdir -p node_modules/node/bin && ln -f "$found" "$node"
fi

# --- the API's models --------------------------------------------------------------------------
if [ ! -e .generated/models.json ] || [ api/extract-schema.ts -nt .generated/models.json ] || [ "$stamp" -nt .generated/models.json ]; then
  say 'extracting the API models'
  "$node" --no-warnings api/extract-schema.ts >/dev/null || fail 'api/extract-schema.ts failed'
fi

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
# The Node of the npm package is linked with it, and minimal systems come without.
if [ "$(uname -s)" = Linux ] && ! PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null | grep -q 'libatomic\.so\.1 '; then
  wanted="$wanted libatomic1"
fi
if ! command -v npm >/dev/null 2>&1; then need npm npm; fi
if [ "${1:-}" = test ]; then
  need etcd etcd-server
  need /bin/busybox busybox-static
  command -v kubectl >/dev/null 2>&1 || need kubectl kubernetes-client
fi
# The standard place for CNI plugins differs between distributions; either one will do.
[ -e /opt/cni/bin/bridge ] && wanted=$(printf '%s' "$wanted" | sed 's/ containernetworking-plugins//')

as_root=''
install_wanted() { # one line of what went wrong in $problem, when it fails
  [ -n "$wanted" ] || return 0
  if [ "$(uname -s)" != Linux ]; then
    problem="Gantry runs pods on Linux; this is $(uname -s). The API server alone (./gantry apiserver) needs only npm."
    return 1
  fi
  if ! command -v apt-get >/dev/null 2>&1; then
    problem="please install these with your package manager, then run this again:$wanted"
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    as_root=sudo
    if ! command -v sudo >/dev/null 2>&1; then
      problem="missing packages:$wanted. Run as root: apt-get install$wanted"
      return 1
    fi
  fi
  say "installing distribution packages:$wanted"
  log=$(mktemp)
  apt_install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $wanted >"$log" 2>&1
  }
  if ! apt_install; then
    say 'refreshing the package lists'
    if ! $as_root apt-get update >"$log" 2>&1; then
      tail -5 "$log" >&2
      problem='the package lists cannot be refreshed: is there a network?'
      return 1
    fi
    apt_install || { tail -5 "$log" >&2; problem="could not install:$wanted"; return 1; }
  fi
  rm -f "$log"
}
install_wanted || fail "$problem"

# --- microVMs: what they need besides; without it pods run as containers only ------------------
kernel_dir=/var/cache/gantry/packages # guest/build.ts looks here
fetch_kernel() { # the distribution's kernel package, only ever unpacked for guests
  for found in "$kernel_dir"/linux-image-*.deb; do [ -e "$found" ] && return 0; done
  command -v apt-cache >/dev/null 2>&1 || { problem='no apt-get to fetch a kernel package with'; return 1; }
  name=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -1)
  [ -n "$name" ] || { problem='the package lists name no linux-image-amd64'; return 1; }
  say "fetching $name for microVMs (unpacked, never installed)"
  work=$(mktemp -d)
  if ! (cd "$work" && apt-get download "$name" >log 2>&1); then
    problem="could not fetch $name: $(tail -1 "$work/log")"
    rm -rf "$work"
    return 1
  fi
  [ "$(id -u)" = 0 ] || as_root=sudo
  $as_root mkdir -p "$kernel_dir" && $as_root mv "$work"/*.deb "$kernel_dir"/ && rm -rf "$work"
}
if [ "$(uname -s) $(uname -m)" = 'Linux x86_64' ]; then
  wanted=''
  need qemu-system-x86_64 qemu-system-x86
  need musl-gcc musl-tools
  need gcc gcc
  need /usr/include/linux/rtnetlink.h linux-libc-dev
  need mkfs.erofs erofs-utils
  need mke2fs e2fsprogs
  need xz xz-utils
  need lz4 lz4
  { install_wanted && fetch_kernel; } || say "microVM pods are not available: $problem"
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

# --- compiled forms ----------------------------------------------------------------------------
# The compiler of TypeScript takes 25 MB, which a process that had to compile keeps: these two live
# long, and have V8 flags, and so compiled forms, of their own.
compiled=.generated/compiled
if [ ! -e "$compiled" ] || [ -n "$(find base proto api client node-agent cli/main.ts gantry -newer "$compiled" \( -name '*.ts' -o -name gantry \) -print -quit)" ]; then
  say 'compiling the node agent and the microVM runtime'
  for component in node-agent microvm-runtime; do
    ./gantry "$component" --help >/dev/null || fail "./gantry $component --help failed"
  done
  touch "$compiled"
fi

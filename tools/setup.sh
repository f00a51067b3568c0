#!/bin/bash
# Installs the Debian packages of tools/apt-packages.txt that are missing, as root or through sudo; with the argument `demo`
# only those that the demo needs.
# With nothing missing it asks dpkg once and ends. On other systems it prints what is needed and exits 1;
# QUANTD_SETUP=skip says that everything is there under other names.
set -euo pipefail
[[ "${QUANTD_SETUP:-}" == skip ]] && exit 0

list=$(<"$(dirname "$0")/apt-packages.txt")
[[ "${1:-}" == demo ]] && list=${list%%# tests*}
mapfile -t packages < <(grep -Ev '^(#|$)' <<<"$list")

missing_packages() {
  local installed
  installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null |
    sed -n 's/ installed$//p' || true)
  comm -23 <(printf '%s\n' "${packages[@]}" | sort -u) <(sort -u <<<"$installed")
}

if command -v dpkg-query >/dev/null; then
  mapfile -t missing < <(missing_packages)
  [[ ${#missing[@]} -eq 0 ]] && exit 0
else
  missing=("${packages[@]}")
fi

id="" version=""
if [[ -r /etc/os-release ]]; then
  id=$(. /etc/os-release && echo "${ID:-}")
  version=$(. /etc/os-release && echo "${VERSION_ID:-}")
fi
if [[ "$id" != debian || "$version" != 12 ]]; then
  cat >&2 <<END
quantd builds on Debian 12 (found: ${id:-an unknown system} ${version}). Missing there, by the names of Debian:
$(printf '  %s\n' "${missing[@]}")
Needed under any name: g++ 12 or clang 14 or newer, CMake 3.25, ninja, gRPC 1.51 with its protoc plugin and grpc-proto, protobuf 3.21,
abseil 20220623, prometheus-cpp 1.0, nlohmann-json 3.11, PCRE2 10.42 (8 bit), utf8proc 2.8, cpp-httplib 0.11, CLI11 2.1, libedit 3.1,
yaml-cpp 0.7, GoogleTest 1.12, benchmark 1.7, Python 3.11 with pip and venv, curl.
When they are there: QUANTD_SETUP=skip make demo
END
  exit 1
fi

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "these packages are missing; install them as root: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)

echo "setup: installing ${#missing[@]} Debian packages: ${missing[*]}"
"${apt[@]}" update || echo "setup: apt-get update failed; trying with the lists that are there" >&2
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null

mapfile -t missing < <(missing_packages)
if [[ ${#missing[@]} -ne 0 ]]; then
  echo "setup: still missing after apt-get install: ${missing[*]}" >&2
  exit 1
fi

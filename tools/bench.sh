#!/bin/bash
# Runs every benchmark program of a build folder: tools/bench.sh build/release
set -euo pipefail
shopt -s nullglob
programs=("$1"/bin/*_bench)
[[ ${#programs[@]} -gt 0 ]] || { echo "no benchmark programs in $1/bin" >&2; exit 1; }
for program in "${programs[@]}"; do
  echo "== $(basename "$program")"
  "$program"
done

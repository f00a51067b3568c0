#!/bin/bash
# Serves a small chat model, asks it something over gRPC, shows metrics and memory, stops: tools/demo.sh PATH/TO/quantd
set -euo pipefail
quantd=$1
question=${QUESTION:-Why is the sky blue? Answer in two or three sentences.}
work=$(mktemp -d)
pid=
cleanup() {
  [[ -z "$pid" ]] || kill -KILL "$pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

bold="" dim="" plain=""
if [[ -t 1 && -z "${NO_COLOR:-}" ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
show() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; }

model=$("$(dirname "$0")/fetch_demo_model.sh")

title "Starting the daemon: SmolLM2-135M-Instruct, 4 bit weights, int8 KV cache"
serve=(serve "smollm2=$model" --kv-cache-dtype int8 --kv-cache-bytes 64MiB)
show "quantd ${serve[*]}"
"$quantd" "${serve[@]}" --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --ready-file "$work/ready" >"$work/log" 2>&1 &
pid=$!
for ((i = 0; i < 600; ++i)); do
  [[ ! -s "$work/ready" ]] || break
  kill -0 "$pid" 2>/dev/null || { cat "$work/log" >&2; echo "quantd serve failed" >&2; exit 1; }
  sleep 0.1
done
[[ -s "$work/ready" ]] || { cat "$work/log" >&2; echo "quantd serve was not ready within a minute" >&2; exit 1; }
address=$(sed -n 's/.*"grpc": *"\([^"]*\)".*/\1/p' "$work/ready")
metrics=$(sed -n 's/.*"metrics": *"\([^"]*\)".*/\1/p' "$work/ready")
echo "ready: gRPC on $address, metrics on http://$metrics/metrics"

title "A chat, streamed over gRPC"
show "quantd chat --address $address \"$question\""
"$quantd" chat --address "$address" "$question"

title "What is loaded"
show "quantd models --address $address"
"$quantd" models --address "$address"

title "Its metrics"
show "curl http://$metrics/metrics    # some of them, what is 0 left out"
curl --silent --fail "http://$metrics/metrics" >"$work/metrics"
names="requests_total|tokens_total|time_to_first_token_seconds_sum|kv_blocks|memory_bytes|device_memory_(used|unattributed)_bytes"
grep -E "^quantd_($names)" "$work/metrics" | grep -v ' 0$' | sort

title "What a load takes, known before it: nothing is computed or allocated"
show "quantd plan $model --kv-cache-dtype int8 --kv-cache-bytes 64MiB"
"$quantd" plan "$model" --kv-cache-dtype int8 --kv-cache-bytes 64MiB

kill -TERM "$pid"
status=0
wait "$pid" || status=$?
pid=
[[ $status -eq 0 ]] || { cat "$work/log" >&2; echo "the daemon ended with status $status on SIGTERM" >&2; exit 1; }

title "Stopped. To go on:"
cat <<END
  $quantd serve smollm2=$model
  $quantd chat                              # in another terminal: a conversation
  $quantd generate "Once upon a time"
  $quantd help serve                        # schemes, KV formats, limits
END

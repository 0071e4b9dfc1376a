#!/bin/sh
# Our client of endpoints and asyncio with the openai client, in turns, against one loopback server that
# serves SLOTS at once, each in A + B * active milliseconds.
#
#   PYTHON=venv/bin/python benches/endpoint.sh [ROWS] [ROUNDS] [SLOTS] [A_MS] [B_MS]
#
# The venv needs the PyPI package openai. Printed: each client's share of the most that the server can do,
# answers that were computed and not used, and processor time of a request, with their ratio.
set -eu
rows=${1:-20000} rounds=${2:-3} slots=${3:-64} a=${4:-100} b=${5:-1}
python=${PYTHON:-python3} port=18456
cargo build --release --bench endpoint
binary=$(ls -t "${CARGO_TARGET_DIR:-target}"/release/deps/endpoint-* | grep -v '\.d$' | head -1)
"$binary" serve $port "$slots" "$a" "$b" & server=$!
trap 'kill $server' EXIT
sleep 1
results=$(mktemp)
for _ in $(seq "$rounds"); do
    for client in ours peer; do
        case $client in
            ours) line=$("$binary" ask http://127.0.0.1:$port/v1 "$rows") ;;
            peer) line=$("$python" benches/peers/endpoint.py http://127.0.0.1:$port/v1 "$rows" "$slots") ;;
        esac
        echo "$line" >> "$results"
        "$python" -c 'import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1]).read().decode())' \
            http://127.0.0.1:$port/stats >> "$results"
    done
done
"$python" - "$results" "$rows" "$slots" "$a" "$b" <<'PYTHON'
import json, statistics, sys

lines = [json.loads(line) for line in open(sys.argv[1])]
rows, slots, a, b = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
best = slots / (a + b * slots) * 1e3
of = {}
for client, server in zip(lines[::2], lines[1::2]):
    one = of.setdefault(client["client"], [])
    one.append((rows / server["seconds"], server["served"] - client["answered"], client["cpu_ms_per_request"]))
    if "usage" in client:
        print(client["client"], "found", client["usage"][0]["concurrency"], "at once")
print(f"the server can do {best:.1f} answers/s")
for client, runs in of.items():
    rate, cpu = statistics.median(r[0] for r in runs), statistics.median(r[2] for r in runs)
    shares = ", ".join(f"{r[0] / best:.3f}" for r in runs)
    print(f"{client}: {rate:.1f} answers/s = {rate / best:.3f} of that ({shares}); "
          f"{sum(r[1] for r in runs)} wasted; {cpu:.3f} CPU ms a request")
if len(of) == 2:
    ours, peer = (statistics.median(r[2] for r in of[c]) for c in ("recaption", "openai"))
    print(f"CPU time: ours is {ours / peer:.3f} of the peer's")
PYTHON

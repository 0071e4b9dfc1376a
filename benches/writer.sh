#!/bin/sh
# Our local writer and llama.cpp, in turns, on one model file, one prompt and the same threads.
#
#   PYTHON=venv/bin/python benches/writer.sh RUN [MODEL] [ROWS] [THREADS] [ROUNDS]
#
# RUN is the folder of a refined run, whose rows are asked about. The venv needs the PyPI package
# llama-cpp-python, which builds llama.cpp for this processor. Printed: rows and tokens a second of each, the
# ratio to llama.cpp, and how many texts are the same. The prefix (system text and examples) is part of the time.
set -eu
run=$1 model=${2:-$HOME/.cache/recaption/models/smollm2-135m/model.gguf} rows=${3:-64} threads=${4:-2} rounds=${5:-3}
python=${PYTHON:-python3}
cargo build --release --bench writer
binary=$(ls -t "${CARGO_TARGET_DIR:-target}"/release/deps/writer-* | grep -v '\.d$' | head -1)
chats=$(mktemp) results=$(mktemp)
"$binary" chats "$run" "$rows" > "$chats"
for _ in $(seq "$rounds"); do
    "$binary" write "$model" "$chats" "$threads" >> "$results"
    for how in chat 8; do
        "$python" benches/peers/writer_llama.py "$model" "$chats" "$threads" $how 2>/dev/null >> "$results"
    done
done
"$python" - "$results" <<'PYTHON'
import json, statistics, sys

of = {}
for line in map(json.loads, open(sys.argv[1])):
    of.setdefault(line["client"], []).append(line)
rate = {c: statistics.median(r["rows"] / r["seconds"] for r in runs) for c, runs in of.items()}
ours = of["recaption"][0]["texts"]
for client, runs in of.items():
    tokens = statistics.median(r["tokens"] / r["seconds"] for r in runs)
    each = ", ".join(f"{r['rows'] / r['seconds']:.2f}" for r in runs)
    same = sum(a == b for a, b in zip(ours, runs[0]["texts"]))
    print(f"{client}: {rate[client]:.2f} rows/s ({each}), {tokens:.1f} tokens/s, {same} of {len(ours)} texts as ours; "
          f"ours is {rate['recaption'] / rate[client]:.2f} times that")
PYTHON

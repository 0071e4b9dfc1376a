#!/usr/bin/env bash
# (d) Peak memory of `refine` with ten times the rows, in shards of one size.
#
#   benches/memory.sh PARQUET [ROWS] [ROWS PER SHARD]
#
# PYTHON names a Python 3.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
input=${1:?give a parquet file with an image column, such as openclipart.parquet}
rows=${2:-700}
shard=${3:-500}
models=examples/models
cargo build --release --quiet
target=$(cargo metadata --format-version 1 --no-deps |
  "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

peak() {
  "$python" benches/peers/measured.py "$target/release/recaption" refine "$input" \
    -o "$work/$1" --limit "$1" --rows-per-shard "$shard" --tagger $models/tagger \
    --detector $models/detector --captioner $models/captioner |
    "$python" -c 'import json, sys; print(json.load(sys.stdin)["peak_mb"])'
}

few=$(peak "$rows")
many=$(peak $((rows * 10)))
"$python" -c "print(f'$rows rows: $few MB, ten times: $many MB, {$many / $few:.2f} x')"

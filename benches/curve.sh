#!/usr/bin/env bash
# The first steps of a training against a PyTorch twin: the same weights, pictures, texts and recipe.
#
#   benches/curve.sh [STEPS] [f64|f32] [RATE] [START]
#
# `tiny` on the pictures of examples/demo, from START, the folder of a training, since a training from
# initial weights is chaotic (benches/curve.rs). PYTHON names a Python with torch and safetensors. Prints
# how far losses, norms of gradients and scales are apart at most, and fails where losses are by over 1e-3.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
steps=${1:-200}
dtype=${2:-f64}
rate=${3:-1e-4}
task=$(mktemp -d)
trap 'rm -rf "$task"' EXIT
cargo bench --bench curve -- "$task" "$steps" "$dtype" "$rate" ${4:+"$4"} >"$task/ours.jsonl"
double=$([ "$dtype" = f64 ] && echo --double || true)
"$python" -B benches/peers/rwkv_clip_torch.py curve --task "$task" $double >"$task/torch.jsonl"
"$python" -B benches/peers/curves.py "$task/ours.jsonl" "$task/torch.jsonl"

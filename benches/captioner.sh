#!/usr/bin/env bash
# (c) Captions a second with one thread, against a greedy loop over Python's onnxruntime, in turns.
# The captions are the same ones, so the ratio is also that of tokens.
#
#   benches/captioner.sh [MODEL] [FOLDER OF PICTURES] [ROUNDS]
#
# PYTHON names a Python with onnxruntime (of the version that `recaption setup` finds), numpy,
# Pillow and tokenizers.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
model=${1:-examples/models/captioner}
pictures=${2:-examples/demo/images}
rounds=${3:-5}
bench=$(cargo bench --bench captioner --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/captioner-[^"]*\)".*/\1/p' | tail -1)
core="taskset -c 0"
peer="$core $python benches/peers/caption_ort.py $model $pictures"
"$python" benches/peers/ratio.py captions_per_second "$rounds" \
  "ours, batches of 8=$core $bench $model $pictures 8" \
  "python, one by one=$peer 1" \
  "python, batches of 8=$peer 8"
"$python" benches/peers/ratio.py captions_per_second "$rounds" \
  "ours, one by one=$core $bench $model $pictures 1" \
  "python, one by one=$peer 1"

#!/usr/bin/env bash
# (c) Captions a second with one thread, in turns with two peers on the same files: a bare greedy loop
# over Python's onnxruntime, and optimum's `generate` where it is installed. The captions are the same
# ones, so the ratio is also that of tokens.
#
#   benches/captioner.sh [MODEL] [FOLDER OF PICTURES] [ROUNDS]
#
# PYTHON names a Python with onnxruntime (of the version that `recaption setup` finds), numpy,
# Pillow and tokenizers; with optimum-onnx too, optimum is measured.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
model=${1:-examples/models/captioner}
pictures=${2:-examples/demo/images}
rounds=${3:-5}
bench=$(cargo bench --bench captioner --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/captioner-[^"]*\)".*/\1/p' | tail -1)
core="taskset -c 0"
peers() {
  echo "python, batches of $1=$core $python benches/peers/caption_ort.py $model $pictures $1"
  if "$python" -c 'import optimum.onnxruntime' 2>/dev/null; then
    echo "optimum, batches of $1=$core $python benches/peers/caption_optimum.py $model $pictures $1"
  fi
}
for batch in 1 8; do
  mapfile -t others < <(peers "$batch")
  "$python" benches/peers/ratio.py captions_per_second "$rounds" \
    "ours, batches of $batch=$core $bench $model $pictures $batch" "${others[@]}"
done

#!/usr/bin/env bash
# The towers' forward passes and the training step against PyTorch eager, in turns, on two threads.
#
#   benches/rwkv_clip.sh [BATCH] [ROUNDS]
#
# B/32; AdamW is PyTorch's default one and, as a second peer, its fused one. PYTHON names a Python
# with torch. A ratio is of pictures (texts, pairs) a second.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
batch=${1:-8}
rounds=${2:-5}
bench=$(cargo bench --bench rwkv_clip --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/rwkv_clip-[^"]*\)".*/\1/p' | tail -1)
export RAYON_NUM_THREADS=2
peer="$python -B benches/peers/rwkv_clip_torch.py"
for tower in image text; do
  echo "$tower, forward, batches of $batch:"
  "$python" benches/peers/ratio.py per_second "$rounds" \
    "ours=$bench $tower b32 $batch" \
    "torch=$peer $tower --batch $batch"
done
echo "training step, batches of $batch:"
"$python" benches/peers/ratio.py per_second "$rounds" \
  "ours=$bench step b32 $batch" \
  "torch=$peer step --batch $batch" \
  "torch, fused AdamW=$peer step --batch $batch --fused"

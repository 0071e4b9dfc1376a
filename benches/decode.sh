#!/usr/bin/env bash
# (a) Decode, resize and normalise on one core, against Pillow on the same files, in turns.
#
#   benches/decode.sh [FOLDER OF PICTURES] [ROUNDS]
#
# JPEGs of 0.25 megapixels are made of the pictures. PYTHON names a Python with Pillow and numpy.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
pictures=${1:-examples/demo/images}
rounds=${2:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" benches/peers/make_jpegs.py "$work/jpegs" "$pictures"
bench=$(cargo bench --bench decode --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/decode-[^"]*\)".*/\1/p' | tail -1)
core="taskset -c 0"
"$python" benches/peers/ratio.py pictures_per_second "$rounds" \
  "ours=$core $bench $work/jpegs" \
  "pillow=$core $python benches/peers/decode_pillow.py $work/jpegs" \
  "pillow, draft=$core $python benches/peers/decode_pillow.py $work/jpegs 3 draft"

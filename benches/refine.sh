#!/usr/bin/env bash
# (b) The whole of `refine` against the bare models on the same pictures and cores, in turns.
#
#   benches/refine.sh PARQUET [ROWS] [ROUNDS]
#
# Pictures a second of refine are refined rows over the wall time of the process: rejected rows cost
# it time and count for nothing. PYTHON names a Python 3.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
input=${1:?give a parquet file with an image column, such as openclipart.parquet}
rows=${2:-2000}
rounds=${3:-3}
models=examples/models
cargo build --release --quiet
target=$(cargo metadata --format-version 1 --no-deps |
  "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
bench=$(cargo bench --bench bare_sessions --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/bare_sessions-[^"]*\)".*/\1/p' | tail -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/refine" <<END
#!/usr/bin/env bash
set -euo pipefail
rm -rf "$work/run"
$python benches/peers/measured.py "$target/release/recaption" refine "$input" -o "$work/run" \\
  --tagger $models/tagger --detector $models/detector --captioner $models/captioner \\
  --limit $rows >"$work/measured"
$python - <<'PY'
import glob, json
seconds = json.load(open("$work/measured"))["seconds"]
refined = sum(json.load(open(p))["refined"] for p in glob.glob("$work/run/part-*.json"))
print(json.dumps({"pictures_per_second": refined / seconds}))
PY
END
chmod +x "$work/refine"
"$python" benches/peers/ratio.py pictures_per_second "$rounds" \
  "refine=$work/refine" \
  "bare sessions=$bench $input $models $rows"

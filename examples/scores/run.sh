#!/usr/bin/env bash
# From pictures with titles to scores: refine openclipart, train `tiny` on it, score it on pictures of
# two other collections, against guessing and against the same model untrained.
#
#   examples/scores/run.sh DATA OUT [STEPS]
#
# DATA holds openclipart.parquet, tuxpaint.parquet and openmoji.parquet: columns image, raw_text,
# category (a path), split. Stopped, the same command continues. 1500 steps take about 20 minutes on
# two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
data=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
steps=${3:-1500}
recaption=${RECAPTION:-target/release/recaption}
models=examples/models

"$recaption" refine "$data/openclipart.parquet" -o "$out/refined" \
  --tagger $models/tagger --detector $models/detector --captioner $models/captioner

train() { # NAME STEPS RATE
  "$recaption" train "$out/refined" -o "$out/$1" --model tiny --batch 128 --steps "$2" --lr "$3" \
    --validation-where "split == 'test'" --validation-every 250 --checkpoint-every 250
}
train trained "$steps" 1e-3
train untrained 1 1e-30 # one step at a rate that moves nothing

cat >"$out/suite.toml" <<END
[[checkpoint]]
path = "untrained"
[[checkpoint]]
path = "trained"

[[labelled]]
name = "Tux Paint"
data = "$data/tuxpaint.parquet"
label_column = "category"
label_depth = 1
templates = ["a picture of {}.", "{}", "clip art: {}"]
tasks = ["zero_shot", "linear_probe"]

[[labelled]]
name = "OpenMoji"
data = "$data/openmoji.parquet"
label_column = "category"
label_depth = 1
templates = ["a picture of {}.", "{}", "clip art: {}"]
tasks = ["zero_shot", "linear_probe"]

[[labelled]]
name = "openclipart"
data = "$data/openclipart.parquet"
label_column = "category"
label_depth = 1
where = "split == 'test'"
templates = ["a picture of {}.", "{}", "clip art: {}"]
tasks = ["zero_shot", "linear_probe"]
[labelled.probe]
train = { where = "split == 'train'" }

[[captioned]]
name = "openclipart, all titles"
data = "$data/openclipart.parquet"
where = "split == 'test'"

[[captioned]]
name = "openclipart, titles of one picture"
data = "$data/openclipart.parquet"
where = "split == 'test'"
only_unique_texts = true
END
"$recaption" eval --suite "$out/suite.toml" -o "$out/scores"

"""The peer of benches/captioner.rs: a greedy loop over the same files with Python's onnxruntime.

    caption_ort.py MODEL FOLDER [BATCH] [SECONDS]

One thread, prepared tensors, a cache of keys and values; the decoder is decoder_model_merged.onnx.
The loop goes on until every row of the batch has ended, as transformers' generate does.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from pictures import prepare
from tokenizers import Tokenizer

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
batch = int(sys.argv[3]) if len(sys.argv) > 3 else 1
seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 3

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
options.log_severity_level = 3
cpu = ["CPUExecutionProvider"]
encoder = onnxruntime.InferenceSession(str(model / "encoder_model.onnx"), options, providers=cpu)
decoder = onnxruntime.InferenceSession(
    str(model / "decoder_model_merged.onnx"), options, providers=cpu
)
tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
config = json.loads((model / "config.json").read_text())
generation = json.loads((model / "generation_config.json").read_text())
preprocessor = json.loads((model / "preprocessor_config.json").read_text())
START, END = generation["decoder_start_token_id"], generation["eos_token_id"]
MOST = generation["max_length"] - 1
HEADS = config["decoder"]["n_head"]
WIDTH = config["decoder"]["n_embd"] // HEADS
PAST = [i.name for i in decoder.get_inputs() if i.name.startswith("past_key_values")]
OUTPUTS = [o.name for o in decoder.get_outputs()]


def captions(pixels):
    rows = len(pixels)
    hidden = encoder.run(None, {"pixel_values": pixels})[0]
    past = {name: np.zeros((rows, HEADS, 0, WIDTH), dtype=np.float32) for name in PAST}
    token = np.full((rows, 1), START, dtype=np.int64)
    ids, ended, first = [], np.zeros(rows, dtype=bool), True
    for _ in range(MOST):
        feed = {"input_ids": token, "encoder_hidden_states": hidden, **past}
        feed["use_cache_branch"] = np.array([not first])
        outputs = dict(zip(OUTPUTS, decoder.run(None, feed)))
        token = outputs["logits"][:, -1].argmax(-1)[:, None].astype(np.int64)
        ids.append(token[:, 0])
        ended |= token[:, 0] == END
        if ended.all():
            break
        for name in PAST:
            # The branch with a cache gives no keys and values of the encoder: the first ones stay.
            if first or ".encoder." not in name:
                past[name] = outputs[name.replace("past_key_values", "present")]
        first = False
    ids = np.stack(ids, 1).tolist()
    return [row[: row.index(END) + 1] if END in row else row for row in ids]


def all_captions(tensors):
    ids = []
    for at in range(0, len(tensors), batch):
        ids += captions(np.stack(tensors[at : at + batch]))
    return ids


tensors = [prepare(path, preprocessor) for path in sorted(folder.iterdir())]
ids = all_captions(tensors)
started, done, tokens = time.perf_counter(), 0, 0
while time.perf_counter() - started < seconds:
    found = all_captions(tensors)
    done += len(found)
    tokens += sum(len(row) for row in found)
wall = time.perf_counter() - started
texts = [tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids]
print(
    json.dumps(
        {"captions_per_second": done / wall, "tokens_per_second": tokens / wall, "captions": texts}
    )
)

"""The other peer of benches/captioner.rs: the same files with optimum's `generate`, as its users do.

    caption_optimum.py MODEL FOLDER [BATCH] [SECONDS]

One thread, prepared tensors, greedy. Needs optimum-onnx, onnxruntime, torch and Pillow.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForVision2Seq
from pictures import prepare
from transformers import AutoTokenizer

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
batch = int(sys.argv[3]) if len(sys.argv) > 3 else 1
seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 3

torch.set_num_threads(1)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
options.log_severity_level = 3
captioner = ORTModelForVision2Seq.from_pretrained(
    model, session_options=options, provider="CPUExecutionProvider", use_io_binding=False
)
tokenizer = AutoTokenizer.from_pretrained(model)
preprocessor = json.loads((model / "preprocessor_config.json").read_text())


def all_captions(tensors):
    ids = []
    for at in range(0, len(tensors), batch):
        pixels = torch.from_numpy(np.stack(tensors[at : at + batch]))
        ids += captioner.generate(pixel_values=pixels, num_beams=1, do_sample=False).tolist()
    return ids


tensors = [prepare(path, preprocessor) for path in sorted(folder.iterdir())]
ids = all_captions(tensors)
started, done = time.perf_counter(), 0
while time.perf_counter() - started < seconds:
    done += len(all_captions(tensors))
wall = time.perf_counter() - started
texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
print(json.dumps({"captions_per_second": done / wall, "captions": texts}))

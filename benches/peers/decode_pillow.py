"""The peer of benches/decode.rs: what CLIP preprocessing does, with Pillow and numpy, on one core.

    decode_pillow.py FOLDER [SECONDS] [full|draft]

`draft` lets libjpeg decode to a smaller size, which CLIP's own preprocessing does not do.
"""

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def prepare(data, draft):
    picture = Image.open(io.BytesIO(data))
    if draft:
        picture.draft("RGB", (224, 224))
    picture = picture.convert("RGB")
    w, h = picture.size
    size = (224, 224 * h // w) if w <= h else (224 * w // h, 224)
    picture = picture.resize(size, Image.BICUBIC)
    left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
    picture = picture.crop((left, top, left + 224, top + 224))
    values = np.asarray(picture, dtype=np.float32) / 255
    return np.ascontiguousarray(((values - MEAN) / STD).transpose(2, 0, 1))


files = [p.read_bytes() for p in sorted(Path(sys.argv[1]).iterdir())]
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3
draft = sys.argv[3:] == ["draft"]
started, done = time.perf_counter(), 0
while time.perf_counter() - started < seconds:
    for data in files:
        prepare(data, draft)
    done += len(files)
print(json.dumps({"pictures_per_second": done / (time.perf_counter() - started)}))

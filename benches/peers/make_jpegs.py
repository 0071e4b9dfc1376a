"""Deterministic JPEGs of about 0.25 megapixels from real pictures.

    make_jpegs.py OUT FOLDER [COUNT]

Every picture of FOLDER is resized to 0.25 megapixels at its own aspect (LANCZOS) and saved with
quality 87 and 4:2:0, then once more mirrored, until there are COUNT (default 24). Needs Pillow.
"""

import sys
from pathlib import Path

from PIL import Image, ImageOps

out, folder = Path(sys.argv[1]), Path(sys.argv[2])
count = int(sys.argv[3]) if len(sys.argv) > 3 else 24
out.mkdir(parents=True, exist_ok=True)
paths = sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".jpeg", ".png"))
turns = (lambda p: p, ImageOps.mirror, ImageOps.flip, lambda p: ImageOps.mirror(ImageOps.flip(p)))
made = 0
for turn in turns:
    for path in paths:
        if made == count:
            break
        picture = turn(Image.open(path).convert("RGB"))
        scale = (250_000 / (picture.width * picture.height)) ** 0.5
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.LANCZOS)
        picture.save(out / f"{made:03}.jpg", quality=87, subsampling=2)
        made += 1
print(f"{made} pictures in {out}")

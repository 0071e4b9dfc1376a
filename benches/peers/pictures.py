"""Pictures as the captioner's peers show them to the model, from its preprocessor_config.json."""

import numpy as np
from PIL import Image


def prepare(path, preprocessor):
    size = preprocessor["size"]
    picture = Image.open(path)
    if picture.mode in ("RGBA", "LA", "P", "PA"):
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        ground.alpha_composite(picture)
        picture = ground
    picture = picture.convert("RGB")
    picture = picture.resize((size["width"], size["height"]), preprocessor["resample"])
    values = np.asarray(picture, dtype=np.float32) * np.float32(preprocessor["rescale_factor"])
    mean = np.array(preprocessor["image_mean"], dtype=np.float32)
    std = np.array(preprocessor["image_std"], dtype=np.float32)
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))

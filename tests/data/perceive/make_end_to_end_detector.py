"""Writes end_to_end_detector/model.onnx: needs only the Python package `onnx`.

No network at all: the first twelve red values of a picture are its two boxes, in the end-to-end
layout [batch, boxes, 6] (x1, y1, x2, y2, score, class). The batch is frozen at 2, as exports of
Ultralytics freeze it by default (at 1). So a test can write into a picture what is to be found.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [2, 3, 32, 32])
output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [2, 2, 6])
ints = lambda name, values: helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
nodes = [
    helper.make_node("Flatten", ["images"], ["flat"], axis=1),
    helper.make_node("Slice", ["flat", "start", "end", "axis"], ["first"]),
    helper.make_node("Reshape", ["first", "shape"], ["output0"]),
]
constants = [ints("start", [0]), ints("end", [12]), ints("axis", [1]), ints("shape", [2, 2, 6])]
graph = helper.make_graph(nodes, "end_to_end", [images], [output], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
helper.set_model_props(
    model, {"names": "{0: 'cat', 1: 'dog'}", "task": "detect", "imgsz": "[32, 32]", "stride": "32"}
)
onnx.checker.check_model(model)
onnx.save(model, Path(__file__).parent / "end_to_end_detector" / "model.onnx")

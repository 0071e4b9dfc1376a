"""Writes published/*.json from two Python packages, which are given as unpacked wheels:

    pip download --no-deps clip-benchmark==1.6.2 mmpretrain==1.2.0
    python make.py FOLDER_OF_CLIP_BENCHMARK FOLDER_OF_MMPRETRAIN
"""

import ast
import json
import sys
from pathlib import Path

here = Path(__file__).parent
clip_benchmark = Path(sys.argv[1]) / "clip_benchmark/datasets"
names = json.loads((clip_benchmark / "en_classnames.json").read_text())
templates = json.loads((clip_benchmark / "en_zeroshot_classification_templates.json").read_text())
tree = ast.parse((Path(sys.argv[2]) / "mmpretrain/datasets/categories.py").read_text())
categories = {
    node.targets[0].id: ast.literal_eval(node.value)
    for node in tree.body
    if isinstance(node, ast.Assign)
}


def as_folders_sort(constant):
    """Names as words, in the order in which the data set's folders are sorted."""
    return [name.replace("_", " ") for name in sorted(categories[constant])]


# name: (other names, metric, name in clip-benchmark, classes)
sets = {
    "food101": ([], "top1", "food101", as_folders_sort("FOOD101_CATEGORIES")),
    "cifar10": ([], "top1", "cifar10", list(categories["CIFAR10_CATEGORIES"])),
    "cifar100": ([], "top1", "cifar100", as_folders_sort("CIFAR100_CATEGORIES")),
    "sun397": ([], "top1", "sun397", as_folders_sort("SUN397_CATEGORIES")),
    "cars": (
        ["stanford_cars", "stanford_car"],
        "top1",
        "cars",
        list(categories["STANFORDCARS_CATEGORIES"]),
    ),
    "aircraft": (
        ["fgvc_aircraft"],
        "mean_per_class",
        "fgvc_aircraft",
        list(categories["FGVCAIRCRAFT_CATEGORIES"]),
    ),
    "dtd": ([], "top1", "dtd", as_folders_sort("DTD_CATEGORIES")),
    "pets": (["oxford_pets", "oxford_iiit_pet"], "mean_per_class", "pets", names["pets"]),
    "flowers": (
        ["flowers102", "oxford_flowers102"],
        "mean_per_class",
        "flowers",
        names["flowers"],
    ),
    # Its first class is the background, which no evaluation of CLIP asks for.
    "caltech101": ([], "mean_per_class", "caltech101", names["caltech101"][1:]),
    "imagenet": (["imagenet1k"], "top1", "imagenet1k", names["imagenet1k"]),
}

for name, (others, metric, entry, classes) in sets.items():
    published = {
        "name": name,
        "others": others,
        "metric": metric,
        "templates": [template.replace("{c}", "{}") for template in templates[entry]],
        "classes": classes,
    }
    text = json.dumps(published, indent=1, ensure_ascii=False) + "\n"
    (here / "published" / f"{name}.json").write_text(text)

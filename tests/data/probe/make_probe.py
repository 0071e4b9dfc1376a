"""Features and what scikit-learn makes of them, for src/eval/probe: needs scikit-learn, safetensors.

    make_probe.py        writes probe.safetensors and probe.json beside itself

Features of length 1 around class centres that overlap, with a common mean as embeddings have it.
Objectives are C * sum of losses + 0.5 * ||W||^2 at their least: tol is far below the default.
"""

import json
from pathlib import Path

import numpy as np
import sklearn
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

CLASSES, WIDTH, TRAIN, TEST = 12, 24, 600, 600
here = Path(__file__).parent
random = np.random.default_rng(4)
centres = random.normal(size=(CLASSES, WIDTH))
common = 2 * random.normal(size=WIDTH)


def part(count):
    targets = random.integers(0, CLASSES, size=count)
    features = centres[targets] + 1.6 * random.normal(size=(count, WIDTH)) + common
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), targets


def fit(features, targets, c):
    model = LogisticRegression(C=c, max_iter=10_000, tol=1e-9)
    return model.fit(features.astype(np.float64), targets)


def accuracy(model, features, targets):
    return float((model.predict(features.astype(np.float64)) == targets).mean())


def objective(model, features, targets, c):
    probabilities = model.predict_proba(features.astype(np.float64))
    losses = -np.log(probabilities[np.arange(len(targets)), targets])
    return float(c * losses.sum() + 0.5 * (model.coef_**2).sum())


train, test = part(TRAIN), part(TEST)
fits = []
for c in (0.01, 0.316, 10.0, 1000.0):
    model = fit(*train, c)
    fits.append(
        {
            "C": c,
            "objective": objective(model, *train, c),
            "accuracy": accuracy(model, *test),
            "first_row": model.predict_proba(test[0][:1].astype(np.float64))[0].tolist(),
        }
    )

held = TRAIN * 4 // 5
grid = [10 ** (step / 8 - 6) for step in range(97)]
scores = {}
for step in range(0, 97, 16):
    scores[step] = None
step, widths = 16, []
while True:
    for place in scores:
        if scores[place] is None:
            model = fit(train[0][:held], train[1][:held], grid[place])
            scores[place] = accuracy(model, train[0][held:], train[1][held:])
    step //= 2
    if step == 0:
        break
    best = min(scores, key=lambda place: (-scores[place], place))
    for place in (best - step, best + step):
        if 0 <= place < 97:
            scores.setdefault(place, None)
best = min(scores, key=lambda place: (-scores[place], place))
sweep = {
    "C": grid[best],
    "validation": scores[best],
    "accuracy": accuracy(fit(*train, grid[best]), *test),
}

save_file(
    {
        "train_features": train[0],
        "train_targets": train[1].astype(np.int64),
        "test_features": test[0],
        "test_targets": test[1].astype(np.int64),
    },
    here / "probe.safetensors",
)
result = {"sklearn": sklearn.__version__, "classes": CLASSES, "fits": fits, "sweep": sweep}
(here / "probe.json").write_text(json.dumps(result, indent=1) + "\n")

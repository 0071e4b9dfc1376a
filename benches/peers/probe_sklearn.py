"""The peer of our linear probe: what a fit takes scikit-learn on the features of

    cargo bench --bench probe


    probe_sklearn.py [SAMPLES] [WIDTH] [CLASSES] [C] [THREADS]

The settings of CLIP's README (C = 0.316, at most 1000 steps), f32. Prints one line of JSON: seconds,
steps, the objective C * sum of losses + 0.5 * ||W||^2. Needs scikit-learn.
"""

import json
import os
import sys
import time

arguments = sys.argv[1:]
if len(arguments) > 4:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = arguments[4]

import numpy as np  # noqa: E402: the number of threads is read when numpy is imported
from sklearn.linear_model import LogisticRegression  # noqa: E402

n, width, classes = (int(value) for value in (arguments + ["8000", "256", "30"][len(arguments) :])[:3])
c = float(arguments[3]) if len(arguments) > 3 else 0.316


def noise(count, seed):
    """The numbers of the Rust program: a linear congruential generator, 24 bits, -1 to 1."""
    states = np.empty(count, dtype=np.uint32)
    state = seed
    for i in range(count):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        states[i] = state
    return (states >> 8).astype(np.float32) / np.float32(1 << 23) - 1


centres = noise(classes * width, 1).reshape(classes, width)
targets = np.arange(n) % classes
features = centres[targets] + 3 * noise(n * width, 2).reshape(n, width) + 1
features /= np.linalg.norm(features, axis=1, keepdims=True)

started = time.perf_counter()
model = LogisticRegression(C=c, max_iter=1000).fit(features, targets)
seconds = time.perf_counter() - started
probabilities = model.predict_proba(features.astype(np.float64))
losses = -np.log(probabilities[np.arange(n), targets])
objective = float(c * losses.sum() + 0.5 * (model.coef_.astype(np.float64) ** 2).sum())
print(json.dumps({"seconds": round(seconds, 3), "steps": int(model.n_iter_[0]), "objective": objective}))

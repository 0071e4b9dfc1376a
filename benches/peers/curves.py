"""How far two curves (JSON lines with step, loss, grad_norm, logit_scale) are apart at most.

    curves.py OURS PEER

Fails where they have different steps, or losses more than 1e-3 apart.
"""

import json
import sys
from pathlib import Path

ALLOWED = 1e-3

ours, peer = (
    [json.loads(line) for line in Path(path).read_text().splitlines()] for path in sys.argv[1:3]
)
assert [row["step"] for row in ours] == [row["step"] for row in peer], "other steps"
for name in ("loss", "grad_norm", "logit_scale"):
    apart = [abs(a[name] - b[name]) for a, b in zip(ours, peer)]
    worst = max(range(len(apart)), key=apart.__getitem__)
    first, last = ours[0][name], ours[-1][name]
    print(f"{name:12} {first:.6f} -> {last:.6f}   apart at most {apart[worst]:.1e} (step {worst})")
    if name == "loss":
        wrong = not apart[worst] <= ALLOWED
sys.exit(wrong)

"""Runs commands in turns and prints the ratio of a field of what they print, ours over each peer.

    ratio.py FIELD ROUNDS NAME=COMMAND NAME=COMMAND ...

The first is ours. Medians are printed, and the ratio is the median of the ratios of each round, so
that a machine that slows down for a while slows down both sides.
"""

import json
import statistics
import subprocess
import sys

field, rounds = sys.argv[1], int(sys.argv[2])
commands = [argument.split("=", 1) for argument in sys.argv[3:]]
found = {name: [] for name, _ in commands}
last = {}
for _ in range(rounds):
    for name, command in commands:
        out = subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
        last[name] = json.loads(out.strip().splitlines()[-1])
        found[name].append(last[name][field])

ours = commands[0][0]
for name, values in found.items():
    line = f"{name:24} {statistics.median(values):10.1f} {field}"
    if name != ours:
        ratio = statistics.median(o / p for o, p in zip(found[ours], values))
        line += f"   {ours} is {ratio:.2f} x"
        if "captions" in last[ours]:
            same = sum(a == b for a, b in zip(last[ours]["captions"], last[name]["captions"]))
            line += f"   ({same} of {len(last[ours]['captions'])} captions are the same)"
    print(line)
if "ms" in last[ours]:
    print("steps of", ours, "in ms:", json.dumps(last[ours]["ms"]))

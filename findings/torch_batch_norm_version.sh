#!/usr/bin/env bash
# torch: batch norm changes its running statistics in place, and their version counter stands still.
#
# Expected: whatever changes a tensor in place moves tensor._version, and backward() refuses to use a saved tensor that
# has changed since.
# Seen (torch 2.14.1, on a CPU; known upstream since 2018, pytorch issue 13402, open): after F.batch_norm in training
# running_mean holds other values at the same _version. A loss that uses running_mean before another forward pass gets
# the gradient of the later values, without an error; add_ in the same place raises one. Who asks _version whether a
# buffer moved (to copy only what changed, or to see what a step touches) misses batch norm.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1
"$folder/venv/bin/python" -W ignore - <<'PY'  # torch warns where there is no NumPy
import torch
import torch.nn.functional as F

print("torch", torch.__version__)

def by_batch_norm(mean, var):
    F.batch_norm(torch.full((8, 3), 5.0), mean, var, training=True, momentum=0.1)

def by_add(mean, var):
    mean.add_(0.5)

def gradient(change):
    """Of (mean * weight).sum(), mean being 0, where `change` comes between the loss and backward()."""
    mean, var, weight = torch.zeros(3), torch.ones(3), torch.ones(3, requires_grad=True)
    loss, before = (mean * weight).sum(), mean._version
    change(mean, var)
    moved = mean._version - before
    try:
        loss.backward()
    except RuntimeError as error:
        return mean.tolist(), moved, type(error).__name__
    return mean.tolist(), moved, weight.grad.tolist()

seen = {change.__name__: gradient(change) for change in (by_batch_norm, by_add)}
for name, (mean, moved, found) in seen.items():
    print(f"{name:14} mean {mean}   _version moved by {moved}   gradient (0 is right): {found}")
assert seen["by_batch_norm"] == ([0.5] * 3, 0, [0.5] * 3), seen
assert seen["by_add"] == ([0.5] * 3, 1, "RuntimeError"), seen
PY

#!/usr/bin/env bash
# timm: networks that drop a fifth of their features in training although nobody asked for dropout.
#
# Expected: create_model(name, num_classes=0) has no dropout: drop_rate is 0 unless it is given, as for the ResNets.
# Seen (timm 1.0.31, torch 2.14.1): rexnet_100 and ghostnet_100 have 0.2, on the very vector that they return without a
# classifier. In ghostnet_100 it is called as a function, so no nn.Dropout is there to be found. drop_rate=0.0, given
# explicitly, turns it off. A comparison of encoders by name compares dropout, too.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PY'
import timm, torch
from torch import nn

print("timm", timm.__version__, "torch", torch.__version__)
images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))

def passes_equal(network):
    with torch.no_grad():  # batch norm takes the statistics of the batch: only what is drawn can differ
        return torch.equal(network.train()(images), network(images))

seen = {}
for name in ("resnet18", "rexnet_100", "ghostnet_100"):
    network = timm.create_model(name, num_classes=0)
    layers = sum(isinstance(one, nn.Dropout) for one in network.modules())
    zero = timm.create_model(name, num_classes=0, drop_rate=0.0)
    seen[name] = (network.drop_rate, layers, passes_equal(network), passes_equal(zero))
    print(f"{name:14} drop_rate {network.drop_rate}   nn.Dropout layers {layers}   passes in training equal: "
          f"{seen[name][2]}, with drop_rate=0.0 {seen[name][3]}")
assert seen["resnet18"] == (0.0, 0, True, True), seen
assert seen["rexnet_100"] == (0.2, 1, False, True), seen
assert seen["ghostnet_100"] == (0.2, 0, False, True), seen
PY

#!/usr/bin/env bash
# timm: a drop_path_rate that is accepted and does nothing.
#
# Expected: create_model("test_efficientnet", drop_path_rate=0.5) drops branches in training, as efficientnet_b0 does.
# Seen (timm 1.0.31, torch 2.14.1): the network holds four DropPath layers with rates of 0.1 to 0.4, but all of them sit
# in blocks without a skip connection, which never call them; two passes in training mode are equal bit for bit. An
# ablation of stochastic depth on it compares a network with itself, and counting DropPath layers does not tell.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PY'
import timm, torch
from timm.layers import DropPath

print("timm", timm.__version__, "torch", torch.__version__)
images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
seen = {}
for name in ("test_efficientnet", "efficientnet_b0"):
    network = timm.create_model(name, num_classes=0, drop_path_rate=0.5).train()
    layers = [one for one in network.modules() if isinstance(one, DropPath)]
    calls = []
    for one in layers:
        one.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():  # batch norm takes the statistics of the batch: only what is drawn can differ
        same = torch.equal(network(images), network(images))
    seen[name] = (len(layers) > 0, len(calls), same)
    print(f"{name:20} DropPath layers {len(layers):3}   called in two passes {len(calls):3}   passes equal: {same}")
assert seen["test_efficientnet"] == (True, 0, True), seen
assert seen["efficientnet_b0"][1] > 0 and not seen["efficientnet_b0"][2], seen
PY

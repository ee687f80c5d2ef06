#!/usr/bin/env bash
# timm: `num_features` is not the width of what a network without a classifier returns.
#
# Expected: create_model(name, num_classes=0).num_features == model(x).shape[1], as for every ResNet.
# Seen (timm 1.0.31, torch 2.14.1): several families keep layers of their head when the classifier is taken away, and
# return what `head_hidden_size` says. Whoever sizes a projector by num_features gets a shape error at the first batch,
# or, with a lazy layer, a wider network than they report.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PY'
import timm, torch

print("timm", timm.__version__, "torch", torch.__version__)
differ = {}
for name in ("resnet18", "mobilenetv3_small_050", "vgg11", "inception_next_atto"):
    network = timm.create_model(name, num_classes=0).eval()
    with torch.no_grad():
        width = network(torch.zeros(1, 3, 64, 64)).shape[1]
    hidden = getattr(network, "head_hidden_size", network.num_features)
    print(f"{name:24} returns {width:5}   num_features {network.num_features:5}   head_hidden_size {hidden:5}")
    assert width == hidden, "head_hidden_size was right wherever it existed"
    differ[name] = width != network.num_features
assert differ == {"resnet18": False, "mobilenetv3_small_050": True, "vgg11": True, "inception_next_atto": True}, differ
PY

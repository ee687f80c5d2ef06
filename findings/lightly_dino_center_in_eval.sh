#!/usr/bin/env bash
# lightly: asking DINOLoss for a validation loss changes the training.
#
# Expected: in eval() and under no_grad a loss is only computed. lightly's own NTXentLoss leaves its bank alone there.
# Seen (lightly 1.6.0): DINOLoss moves its center at every call, so the same call gives another loss the second time,
# and what is trained afterwards is centred by the validation images. The center is in the state_dict: it is saved, too.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lightly==1.6.0 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" -W ignore - <<'PY'
import lightly, torch
from lightly.loss import DINOLoss, NTXentLoss

print("lightly", lightly.__version__, "torch", torch.__version__)
torch.manual_seed(0)
one, two = torch.randn(4, 8) + 1, torch.randn(4, 8) + 1

def twice(loss, *given):
    """The loss of the same input twice in eval mode, and whether any buffer changed."""
    kept = [buffer.clone() for buffer in loss.buffers()]
    with torch.no_grad():
        values = [loss.eval()(*given).item() for _ in range(2)]
    return values, any(not torch.equal(was, now) for was, now in zip(kept, loss.buffers()))

seen = {"DINOLoss": twice(DINOLoss(8), [one, two], [one, two]),
        "NTXentLoss": twice(NTXentLoss(memory_bank_size=(16, 8)), one, two)}
for name, (values, changed) in seen.items():
    print(f"{name:10} twice the same batch: {values[0]:.4f} {values[1]:.4f}   buffers changed: {changed}")
assert seen["DINOLoss"][1] and seen["DINOLoss"][0][0] != seen["DINOLoss"][0][1], seen
assert not seen["NTXentLoss"][1] and seen["NTXentLoss"][0][0] == seen["NTXentLoss"][0][1], seen
PY

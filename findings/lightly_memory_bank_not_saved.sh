#!/usr/bin/env bash
# lightly: the memory bank of NTXentLoss, MoCo's queue, is in no state_dict.
#
# Expected: a loss that keeps state between steps saves it, as DINOLoss saves its center; a resumed MoCo goes on with
# the queue that it had.
# Seen (lightly 1.6.0; on purpose, by its pull request 993): the bank is a buffer, but state_dict() is empty, and a loss
# restored from it, strictly and without a word, compares with random vectors again. The resumed loss is another number
# until the queue, 65,536 keys in MoCo, is filled anew.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lightly==1.6.0 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" -W ignore - <<'PY'
import lightly, torch
from lightly.loss import DINOLoss, NTXentLoss

print("lightly", lightly.__version__, "torch", torch.__version__)
torch.manual_seed(0)
before = NTXentLoss(temperature=0.2, memory_bank_size=(16, 8))
for _ in range(4):  # fills the bank
    before(torch.randn(4, 8, requires_grad=True), torch.randn(4, 8))
after = NTXentLoss(temperature=0.2, memory_bank_size=(16, 8))
loaded = after.load_state_dict(before.state_dict(), strict=True)
query, key = torch.randn(4, 8), torch.randn(4, 8)  # without gradients, so that the bank stays
losses = [loss(query, key).item() for loss in (before, after)]
buffers = sorted(name for name, _ in before.named_buffers())
print("NTXentLoss buffers", buffers, "  state_dict", list(before.state_dict()), " ", loaded)
print("DINOLoss state_dict", list(DINOLoss(8).state_dict()))
print("loss before saving %.4f, after loading %.4f" % tuple(losses))
assert buffers == ["memory_bank.bank", "memory_bank.bank_ptr"] and not before.state_dict(), buffers
assert list(DINOLoss(8).state_dict()) == ["center"]
assert abs(losses[0] - losses[1]) > 1e-3, losses
PY

#!/usr/bin/env bash
# torchvision: gray pictures made gray come out one level darker, if they are uint8 tensors.
#
# Expected: rgb_to_grayscale is the identity where red, green and blue are equal, as for PIL pictures.
# Seen (torchvision 0.29.1, transforms and transforms.v2): the weights sum to 0.9999 and the fraction is cut off, not
# rounded, so that every level but 0 falls by one, white to 254, and again each time. adjust_saturation blends with that
# gray, so ColorJitter darkens gray pictures, too. Who moves a pipeline from PIL to tensors trains on other numbers, all
# of them shifted the same way.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchvision==0.29.1 torch==2.14.1
"$folder/venv/bin/python" - <<'PY'
import torch, torchvision
from torchvision.transforms import functional as first, v2

print("torchvision", torchvision.__version__, "torch", torch.__version__)
levels = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256).contiguous()  # every level, red = green = blue

def gray(library, picture):
    return library.rgb_to_grayscale(picture, num_output_channels=3)

def three_times_gray(library, picture):
    return gray(library, gray(library, gray(library, picture)))

def half_saturation(library, picture):
    return library.adjust_saturation(picture, 0.5)

for name, library in (("transforms", first), ("transforms.v2", v2.functional)):
    for change, shift in ((gray, -1), (three_times_gray, -3), (half_saturation, -1)):
        tensor = change(library, levels).int() - levels.int()
        pil = v2.functional.pil_to_tensor(change(library, v2.functional.to_pil_image(levels))).int() - levels.int()
        print(f"{name:14} {change.__name__:17} white becomes {255 + int(tensor[0, 0, -1])}, levels changed "
              f"{int((tensor[0] != 0).sum())}   by PIL {255 + int(pil[0, 0, -1])}, {int((pil[0] != 0).sum())}")
        assert not pil.any() and not tensor[..., 0].any() and bool((tensor[..., 3:] == shift).all()), tensor
PY

#!/usr/bin/env bash
# Pillow: the transparency key of a 16-bit gray PNG is ignored by convert("RGBA"); that of 8 bits is heeded.
#
# Expected: a PNG that declares one gray level transparent has alpha 0 there, whatever its depth.
# Seen (Pillow 13.0.0): at 16 bits the picture opens as I;16, its info holds the key, and alpha is 255 everywhere. What
# lies under the key of medical or microscopy pictures is trained on as if it were visible.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import io, struct, zlib
import PIL
from PIL import Image

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def png(depth, levels, key):
    """One row of gray levels; `key` is transparent."""
    row = b"\0" + b"".join(struct.pack(">H" if depth == 16 else ">B", level) for level in levels)
    head = struct.pack(">IIBBBBB", len(levels), 1, depth, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"tRNS", struct.pack(">H", key)), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

print("Pillow", PIL.__version__)
alpha = {}
for depth, levels in ((8, [0, 100, 200]), (16, [0, 25700, 51400])):
    picture = Image.open(io.BytesIO(png(depth, levels, levels[1])))
    alpha[depth] = list(picture.convert("RGBA").getchannel("A").tobytes())
    print(f"{depth:2} bits: mode {picture.mode}, key {picture.info.get('transparency')}, alpha {alpha[depth]}")
assert alpha == {8: [255, 0, 255], 16: [255, 255, 255]}, alpha
PY

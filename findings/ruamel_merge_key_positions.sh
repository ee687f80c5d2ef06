#!/usr/bin/env bash
# ruamel.yaml: a mapping that is only merged has no positions, and a merged key has none beside keys that have.
#
# Expected: a round-trip loader knows the line of every key, merged ones by the mapping that they come from; and YAML
# 1.2, its default, has no merge key, so `<<` would be a key like any other.
# Seen (ruamel.yaml 0.19.1): `<<` is merged all the same. Where a mapping holds nothing but a merge, lc.data is None and
# lc.key() answers None; where it holds more, lc.key() of a merged key is a KeyError though items() yields the key.
# A tool that reports configuration errors by line fails on exactly the files that share settings by anchors.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ruamel.yaml==0.19.1
"$folder/venv/bin/python" - <<'PY'
import ruamel.yaml
from ruamel.yaml import YAML

print("ruamel.yaml", ruamel.yaml.__version__)
load = YAML(typ="rt").load

def asked(mapping, key):
    try:
        return mapping.lc.key(key)
    except Exception as error:
        return type(error).__name__

alone = load("a: {<<: {b: 1}}")["a"]
beside = load("x: &x {b: 1}\na: {<<: *x, c: 2}\n")["a"]
seen = {"merged alone": (dict(alone), alone.lc.data, asked(alone, "b")),
        "merged beside": (dict(beside.items()), asked(beside, "b"), asked(beside, "c"))}
for name, what in seen.items():
    print(name, what)
assert seen["merged alone"] == ({"b": 1}, None, None), seen
assert seen["merged beside"] == ({"c": 2, "b": 1}, "KeyError", (1, 12)), seen
PY

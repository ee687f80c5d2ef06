#!/usr/bin/env bash
# pydantic: Literal[False] takes the number 0, in strict mode and from JSON, where the two cannot be confused.
#
# Expected: where "off, or a count of at least 1" is Literal[False] | Annotated[int, Field(ge=1)], a strict reader
# refuses 0; a plain strict bool does.
# Seen (pydantic 2.14.4): 0 and even 0.0 are answered with False. A literal is looked up by Python's equality, whatever
# strict says, so the lower bound never speaks, and a user who wrote 0 gets "off" without a word. It goes the other way,
# too: Literal[0] takes false and answers 0.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic==2.14.4
"$folder/venv/bin/python" - <<'PY'
from typing import Annotated, Literal
import pydantic
from pydantic import Field, TypeAdapter, ValidationError

print("pydantic", pydantic.__version__)

def asked(kind, text):
    try:
        return repr(TypeAdapter(kind).validate_json(text, strict=True))
    except ValidationError as error:
        return error.errors()[0]["type"]

count = Annotated[int, Field(ge=1)]
kinds = {"bool": bool, "count": count, "Literal[False]": Literal[False], "Literal[0]": Literal[0],
         "Literal[False] | count": Literal[False] | count}
texts = ("false", "0", "0.0")
seen = {name: {text: asked(kind, text) for text in texts} for name, kind in kinds.items()}
for name, answers in seen.items():
    print(f"{name:24}", answers)
assert seen["bool"]["0"] == "bool_type" and seen["count"]["0"] == "greater_than_equal", seen
assert set(seen["Literal[False] | count"].values()) == {"False"}, seen
assert seen["Literal[0]"]["false"] == "0", seen
PY

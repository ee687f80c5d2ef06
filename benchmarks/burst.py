"""One build's side of :mod:`benchmarks.builds`: a burst of training steps for every line that it reads.

Run as a file, with another checkout first on the path: what it imports is that checkout's, so it uses only what builds
have had since their step was first compared. Answers in lines of JSON: where its harness lies, then
``[wall, processor]`` seconds per image for each burst.
"""

from __future__ import annotations

import json
import sys
import time

import harness
from benchmarks.__main__ import prepare
from benchmarks.pretraining import Ours, parts_of
from benchmarks.views import pictures


def main(batch: int, steps: int) -> None:
    prepare()
    ours = Ours(pictures(batch * steps), parts_of("micro", batch))
    print(json.dumps([str(harness.__file__)]), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        ours.epoch()
        spent = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps([one / (batch * steps) for one in spent]), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

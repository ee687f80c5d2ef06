"""For all tests, before torch is imported: one thread, as the Makefile has it, or bits differ in the last places."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

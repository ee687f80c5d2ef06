"""For all tests, before torch is imported: one thread, as the Makefile has it, or bits differ in the last places.

Where everything is required (`.ci/run`), hypothesis tries the same examples every time: a new one that fails is a find,
but not of the change that is being checked.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HARNESS_DIGESTS"] = "off"  # half a minute for every sweep of a test; tests of digests switch them on
settings.register_profile("everything", derandomize=True)
if os.environ.get("HARNESS_REQUIRE_ALL") == "1":
    settings.load_profile("everything")

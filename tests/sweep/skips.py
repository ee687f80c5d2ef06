"""What a machine does not permit skips a test, except where nothing may be skipped unnoticed."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def cannot(reason: str) -> NoReturn:
    """Skip the test, or fail it where ``HARNESS_REQUIRE_ALL=1`` says that nothing may be skipped."""
    if os.environ.get("HARNESS_REQUIRE_ALL") == "1":
        pytest.fail(f"HARNESS_REQUIRE_ALL=1, but {reason}", pytrace=False)
    pytest.skip(reason)

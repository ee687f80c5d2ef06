"""The augmentations exist twice on a CPU: compiled, and as the tensor code that also runs on a GPU."""

from __future__ import annotations

import pytest

from harness.data.ops import numba_cache


@pytest.fixture(params=["compiled", "tensors"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """For tests that hold both to the same oracle."""
    if request.param == "tensors":
        monkeypatch.setattr(numba_cache, "kernels", lambda: None)
    else:
        assert numba_cache.kernels() is not None, "numba is a dependency"
    return str(request.param)

"""How fast the harness is beside what people use today: ``python -m benchmarks`` (``make bench``). Never a test."""

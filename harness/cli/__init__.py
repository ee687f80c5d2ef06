"""The command ``harness``: run, plan, status, logs, cancel, retry, report, data, doctor."""

"""From ``results/`` to one page a reader can check: tables, heatmaps, claims and their verdicts. No torch, no clock."""

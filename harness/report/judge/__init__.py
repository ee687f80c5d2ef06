"""Claims -> verdicts: comparisons over seeds, intervals, and one rule."""

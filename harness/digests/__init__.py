"""What the code computes, in short: a digest of every component on its own tiny examples, and of the loop.

Two versions of the code are compared by these numbers and not by the names of the files that were touched.
"""

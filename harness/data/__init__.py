"""Images and what is done to them before a network sees them. Knows tensors, never experiments."""

"""One trainer core: the loop, its optimisers, exact checkpoints, several processes."""

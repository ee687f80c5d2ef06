"""What will and what will not work on this machine, in one screen."""

"""What the command line prints: tables, the live view, lists of failures."""

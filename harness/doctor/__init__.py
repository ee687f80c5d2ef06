"""Check what works on this machine, in one screen."""

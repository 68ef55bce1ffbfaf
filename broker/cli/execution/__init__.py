"""`broker execution …`: cancels, and one execution looked at."""

"""`broker events …`: what control planes said and nobody could apply."""

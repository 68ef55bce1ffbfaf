"""`broker run …`: a run looked at. Nothing here changes anything."""

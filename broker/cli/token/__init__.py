"""`broker token …`: who may talk to a server."""

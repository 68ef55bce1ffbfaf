"""The HTTP server: stateless, so that any number of them on one Redis answer the same. Start at app.py."""

"""The SDK: runs inside other people's processes, so it is light and keeps out of their event loop."""

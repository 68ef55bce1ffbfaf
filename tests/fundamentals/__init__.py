"""The tutorial: read these files in order. Public API only, real parts, one promise a file."""

"""The tests. `sh tests/run.sh` runs them all; tests/fundamentals is the place to start reading."""

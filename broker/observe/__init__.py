"""What the broker tells about itself: logs, and the signals that tests wait for."""

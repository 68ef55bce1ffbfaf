"""What several tests need and no user does: servers to test against, and waiting without sleeping."""

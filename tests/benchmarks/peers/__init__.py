"""The same work done by others: each contender its own file, run with an interpreter of its own."""

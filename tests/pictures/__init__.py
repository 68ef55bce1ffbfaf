"""The pictures of the README, each made from what really ran."""

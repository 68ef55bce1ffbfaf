"""The mission. Start at engine.py."""

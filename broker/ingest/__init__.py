"""Control-plane events from the stream: start at consumer.py."""

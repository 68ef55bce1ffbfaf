"""What happens in a run, as it happens, for those who look on: events with a durable place each."""

"""Programs that are run by hand: too long or too rough for the suite."""

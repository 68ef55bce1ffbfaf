"""Rules about the code itself, as programs: who imports whom, where things stand, what is public, what installs."""

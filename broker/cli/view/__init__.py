"""Pure: answers of the server → lines for people. Nothing here prints, reads a clock or talks to anybody."""

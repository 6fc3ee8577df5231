"""One module per group of commands; each command is a few lines over the rooms below."""

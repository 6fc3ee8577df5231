"""Every Jinja template of the project, as package data."""

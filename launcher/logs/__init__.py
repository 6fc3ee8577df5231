"""Log files: written, read, merged by time, filtered."""

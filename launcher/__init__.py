"""Launch, supervise and report a job of one process per device."""

__version__ = "0.1.0"

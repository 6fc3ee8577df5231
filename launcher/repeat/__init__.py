"""One job, repeated with several seeds."""

"""One run on several hosts: the head, an agent on each host, and the frames between them."""

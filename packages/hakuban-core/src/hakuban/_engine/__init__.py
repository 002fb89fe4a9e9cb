"""The one lock of a node: what runs under it, and how to wait for it, in tasks and in threads."""

"""What transports and the core agree on: the interface, options and URLs, plugins, and helpers for whoever writes one."""

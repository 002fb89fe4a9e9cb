"""Sockets, for `hakuban.sockets`: the ones that listen, the ones that connect, and what goes through them."""

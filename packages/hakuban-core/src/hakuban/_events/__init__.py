"""Events: what users learn of the changes of tables, by loops, buffers and callbacks."""

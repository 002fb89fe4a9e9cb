"""What waits on event loops of asyncio and trio, and wakes them from other threads."""

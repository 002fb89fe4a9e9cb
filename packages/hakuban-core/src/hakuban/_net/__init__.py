"""Links: reads, writes, retries, and what users see of them."""

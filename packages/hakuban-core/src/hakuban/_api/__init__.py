"""What users hold: nodes, contracts, streams and sinks, and how values become bytes."""

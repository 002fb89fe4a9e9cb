"""The hakuban-router command."""

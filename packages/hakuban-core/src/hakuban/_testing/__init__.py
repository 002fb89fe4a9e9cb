"""What `hakuban.testing` is made of."""

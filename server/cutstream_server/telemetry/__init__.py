"""What the service tells about itself: traces, metrics, logs. Names and units: docs/operations.md."""

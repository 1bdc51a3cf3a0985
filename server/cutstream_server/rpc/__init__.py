"""The gRPC service: converts, delegates and maps errors; knows nothing of pixels."""

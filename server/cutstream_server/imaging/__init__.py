"""Pure functions on arrays, one topic a file, from a file's bytes to a cutout's; nothing here knows gRPC or Triton."""

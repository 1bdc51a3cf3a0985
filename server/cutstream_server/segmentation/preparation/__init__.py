"""Model preparation: from a published IS-Net file to the network and files that Triton serves."""

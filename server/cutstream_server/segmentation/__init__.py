"""Where the mask comes from: the client of Triton, the Triton that the service starts itself, the model's making."""

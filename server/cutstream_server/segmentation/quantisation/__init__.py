"""Makes the int8 variant of a built network, in an environment of its own: NNCF brings 40 packages."""

"""Records in, kernels, records out."""

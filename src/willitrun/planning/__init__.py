"""Sweeps: many scenarios at once, by the same kernels as one."""

"""Package version; read by hatchling and stamped into every verdict."""

__version__ = "0.1.0"

"""What this machine is, or what a described one would be: one module per probe."""

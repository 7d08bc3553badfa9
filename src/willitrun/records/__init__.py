"""What things are: frozen records without arithmetic or I/O."""

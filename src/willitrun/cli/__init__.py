"""The command line (extra ``cli``). Nothing imports it."""

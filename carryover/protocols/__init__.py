"""How a method is led through a stream and scored: one file per protocol."""

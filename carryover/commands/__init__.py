"""What can be typed: one file a command, and the screen that they write to."""

"""What is told to the user, in their language."""

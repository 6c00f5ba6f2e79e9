"""Evidence: what was found, and the document that it is written to."""

"""Evidence: findings, bounds and sections, and the document that stores them."""

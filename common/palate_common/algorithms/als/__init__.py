"""`als`: private alternating least squares, Palate's default."""

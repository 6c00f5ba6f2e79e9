"""Published private recommenders, beside which Palate's own is judged."""

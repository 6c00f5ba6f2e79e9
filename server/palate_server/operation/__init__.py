"""Operation: a population's runs and surveys, one after the other, while the server runs."""

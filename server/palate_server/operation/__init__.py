"""Operation: a population's runs and surveys, one after the other, for as long as the server runs."""

"""`sgd`: federated averaging of a matrix factorisation, for implicit feedback and for ratings."""

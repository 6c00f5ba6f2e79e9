"""The engine `flower`: a run behind a SuperLink of Flower's own, whose nodes Ray's workers answer, on this machine."""

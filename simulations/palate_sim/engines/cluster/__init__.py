"""The engine `ray`: a run whose nodes are answered by the machines of a Ray cluster."""

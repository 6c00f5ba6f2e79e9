"""Statistics: bounds on epsilon from counts and scores of canaries."""

"""Statistics: what counts and scores of canaries say about epsilon."""

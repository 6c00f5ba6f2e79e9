"""The mechanism: updates, their clipping, the noise, and what both cost. The proof of privacy is about this folder."""

"""Records: bytes that can be hashed, signed, proved and kept, whatever they are about."""

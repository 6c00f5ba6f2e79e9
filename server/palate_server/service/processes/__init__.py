"""The processes of a server: each runs, answers, and has its ports."""

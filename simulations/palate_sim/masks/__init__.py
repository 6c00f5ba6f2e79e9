"""A cohort under masks in one process, and what masks cost."""

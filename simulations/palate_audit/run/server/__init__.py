"""A server folder, audited: its records, what left it, its mirror, and the audit that reads them."""

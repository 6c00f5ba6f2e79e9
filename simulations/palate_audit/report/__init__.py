"""The HTML report of an audit, and its figures."""

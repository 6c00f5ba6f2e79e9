"""Ledgers: both sides' ledgers beside a second one of plain lists, through hundreds of generated steps."""

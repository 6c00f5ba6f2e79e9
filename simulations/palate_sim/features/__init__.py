"""Features: public facts about items as numbers."""

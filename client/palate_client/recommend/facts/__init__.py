"""Lists by public facts of items: filters and rules, items that are new, a profile, what is bought or watched again."""

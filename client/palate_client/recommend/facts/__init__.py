"""Lists by public facts of items: filters and rules, items that are new, what is bought or watched again."""

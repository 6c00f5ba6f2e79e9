"""Targets: foreign mechanisms behind the audit's protocol, each a factory for `palate audit mechanism --target`.

palate audit mechanism --target palate_audit.targets.flower:fixed_clipping
palate audit mechanism --target palate_audit.targets.opacus:full_batch
"""

"""Attacks: what somebody gets out of updates, releases and models, beside the most that the claim allows.

    subject       a run folder with its raw data, as an attacker who knows the other users has it
    noise         the run's mechanism drawn again, and who sees what
    likelihood    the optimal test between two histories of one user
    interaction   does user u have item i?
    membership    is user u in it? white box, all others known
    shadow        the same from the released model, after rehearsals
    attribute     what does u like, beyond what half of their history tells?
    substitution  another model for one user, against the real device
    ceiling       the trade-off curve of the claim, and when counts are above it

Every attack is also made where nothing protects, and must succeed there: else it says nothing.
"""

from palate_audit.attacks.section import ATTACKS, REPEATS, USERS, audit_attacks

__all__ = ["ATTACKS", "REPEATS", "USERS", "audit_attacks"]

"""Attacks: what an attacker learns from updates and releases, compared with the most that the claim allows.

    subject       a run folder with its raw data, as an attacker sees it who knows all other users
    noise         fresh draws of the run's noise, and the views of different attackers
    likelihood    the optimal test between two histories of one user
    interaction   does user u have item i?
    membership    is user u in it? white box, all others known
    ceiling       the trade-off curve of the claim, and whether counts exceed it

Every attack also runs against unprotected data, and must succeed there; otherwise its failure proves nothing.
"""

from palate_audit.attacks.section import ATTACKS, REPEATS, USERS, audit_attacks

__all__ = ["ATTACKS", "REPEATS", "USERS", "audit_attacks"]

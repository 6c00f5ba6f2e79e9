"""The core: what the privacy claim rests on. docs/core.md says in which order to read it, and what it is handed.

    noise/             the sampler and its random words, and the final norm check
    accounting.py      what noise costs, in closed form
    cohort_terms.py    how many devices share the noise, and how much each adds
    privacy_mode.py    who adds the noise
    layout.py          the blocks of a contribution and its grid
    plan.py            the signed contract of an attempt, and how a device verifies it
    noise_share.py     what a device adds to its contribution
    masks/             the sum that a server sees instead of its terms
    device/            what a device demands of a plan, and its side of a masked attempt
    log/               the second tier: who was shown which ledger

It imports numpy, cryptography, pydantic and the standard library only, and knows no algorithm and no simulation.
"""

"""Poisoning: what modified devices can do to a model, measured in the production round.

    world         a population, made or from a log, what attackers want of it, and how exposure and quality are judged
    attacked_run  the production round, with modified devices among the honest ones
    knowledge     what attackers work out from the plan, the public model and their own histories
    crafted       the best vector of one clip norm for each block, found by playing the release beforehand
    published     FedRecAttack, adapted to sums of Palate's blocks
    shilling      fake histories through the real contribution
    verdicts      what devices that judge a model hold back, and what attackers who vote get past them
    section       one run and one attack on it, by name

The promise is narrow: an installation moves a sum by at most what a plan allows. What that is worth is measured here.
"""

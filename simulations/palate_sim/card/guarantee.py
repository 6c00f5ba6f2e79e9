"""The guarantee of a run in words: what holds, against whom, and what is assumed.

Unit: user, one installation; adjacency: zero-out.
"""

from __future__ import annotations

import math
from fractions import Fraction

from palate_common.models.manifest import STARTS
from palate_core.accounting import ACCOUNTANT, epsilon_of
from palate_core.plan import Noise
from palate_server.folder.profiles import TRIAL
from palate_server.rounds.terms import RunTerms

GUARANTEE = (
    "For every training installation, for the joint releases listed below, of which model/ is made, and every "
    "efficiently testable event S: P[M(D) in S] <= e^eps P[M(D') in S] + delta, and conversely, where D' is D with "
    "that installation's events emptied; catalogue, cohort, split, filters, public inputs and hyper-parameters are "
    "given. eps = {epsilon} and delta = {delta!r}, by the {accountant}. It holds against anyone who sees all releases "
    "and knows every other user. {server} It assumes that the stated code ran, the operating system's random source, "
    "and AES-256. With D installations of one person, mu becomes D times mu: two give eps = {two}."
)
EVENTS = (
    "For every event, that is one item of one training installation, for the joint releases listed below, of which "
    "model/ is made, and every efficiently testable set S: P[M(D) in S] <= e^eps P[M(D') in S] + delta, and "
    "conversely, where D' is D with that one item taken out of that one history (zero-out: replaced by none); all "
    "other items, catalogue, cohort, split, filters, public inputs and hyper-parameters are given. eps = {epsilon} "
    "and delta = {delta!r}, by the {accountant}, over all noised steps of all rounds on the device{sampling}. It "
    "protects single items and NOT a user as a whole: m items of one user have m times mu, two give eps = {two}. It "
    "holds against anyone, the server and all other devices included, who knows every other event: each device trains"
    " all of it, its user's own vector included, under noise of its own, and sends noised sums. It assumes that the "
    "stated code ran, the operating system's random source, and AES-256."
)
SAMPLED = (
    "; a step takes each event by a secret coin of the device, with probability {inclusion:g}, and that is counted: it "
    "assumes that nobody else has the coins"
)
CENTRAL = "It does not hold against the server, its operator or its storage, who see each clipped update."
MASKED = (
    "It also holds against the server together with at most {corrupt} of the cohort's devices, dropouts included, "
    "provided that in every opened attempt at least {shares} survivors run unmodified code under identities that are "
    "not the adversary's, that corruption does not depend on the ring's seed, that the conditions on the graph hold "
    "(they fail with probability <= 2^-40 an attempt, which is in delta), and that X25519, Ed25519 and SHA-256 are "
    "what they are held to be. Every answered attempt counts."
)
SUBCOHORTS = (
    " The devices of a round are in {number} sub-cohorts, drawn at random; each is an aggregation of its own with all "
    "of the noise, and these numbers are of each. A device answers in one of them, once an attempt: together they cost "
    "it what its own does (parallel composition)."
)
UNMASKED = (
    "It does not hold against the server: the sum was computed in the clear, and whoever ran it saw the sum of each "
    "node with the noise of that node's devices alone. With masks the same numbers would hold against the server "
    "together with at most {corrupt} of the cohort's devices, dropouts included."
)
LOCAL = (
    "It also holds against the server and all other devices together, and needs nothing of them: each device adds all "
    "of its noise to its clipped contribution before anything leaves it, and the releases are sums of what was sent. "
    "What one device sends holds to the same numbers by itself; its unit is that device's user. A simulation's node "
    "draws the noise of all its devices at once, which has the same law."
)
SEEDED = "None: whoever knows the seed of this run can take its noise off. With secure noise of this size it would be: "
BUILDS_ON = (
    " The model also builds on the former release of the run {run} (model {model_hash}), which was charged to the same "
    "ledger when it was made and costs nothing again: for all releases of this population together, eps = {together} "
    "with the same delta, unit and adjacency."
)
STARTED = (
    " The model also builds on one that was made elsewhere of {users} people (model {model_hash}, population "
    "{population!r}): of them this guarantee says nothing."
)
PANEL = (
    " The {users} people of the panel ({origin}) have none for the log that they opened: it is a public input, used "
    "without noise, and whoever has the model may find out what is in it."
)
IN_ROUNDS = (
    "they take part in the rounds like everybody, and what they send there is protected like everybody's, which "
    "doesn't hide what they have opened"
)
APART = "they take no part in the rounds of this run"
OPENED = (
    "public by their own will or by its publisher's, and not protected by anything in this run; {part}. Everybody "
    "else's guarantee doesn't depend on it"
)
NO_GUARANTEE = "None. The run was made with dp off: no noise was added, and the model may reveal what any user did."


def guarantee(terms: RunTerms, *, epsilon: float, mu: float, together: float) -> str:
    """The guarantee in words; `together` is the mu^2 of all runs on the population."""
    if not terms.mode.private:
        return NO_GUARANTEE
    if terms.events is not None:
        words = EVENTS.format(
            epsilon=_up(epsilon),
            delta=terms.delta,
            accountant=f"{ACCOUNTANT} accountant (Gaussian differential privacy)",
            sampling=SAMPLED.format(inclusion=terms.events) if terms.events < 1 else "",
            two=_up(epsilon_of(mu=2 * mu, delta=terms.noise_delta)),
        )
        return SEEDED + words if terms.noise is Noise.SEEDED else words
    words = GUARANTEE.format(
        epsilon=_up(epsilon),
        delta=terms.delta,
        accountant=f"{ACCOUNTANT} accountant (Gaussian differential privacy)",
        server=_server(terms),
        two=_up(epsilon_of(mu=2 * mu, delta=terms.noise_delta)),
    )
    if (former := terms.about.get("builds_on")) is not None:
        spent = _up(epsilon_of(mu=math.sqrt(together), delta=terms.noise_delta))
        if former["run"] is not None:
            words += BUILDS_ON.format(run=former["run"], model_hash=former["model_hash"], together=spent)
        if STARTS in former:
            words += STARTED.format(**{**former[STARTS], "users": f"{former[STARTS]['users']:,}"})
    if (panel := terms.about.get("panel")) is not None:
        words += PANEL.format(users=f"{panel['users']:,}", origin=panel["origin"])
    return SEEDED + words if terms.noise is Noise.SEEDED else words


def panel_words(terms: RunTerms) -> str:
    """Why the guarantee doesn't cover what a panel has opened, and what its people have part in."""
    return OPENED.format(part=APART if terms.about["panel"].get("apart") else IN_ROUNDS)


def stamp(terms: RunTerms) -> str | None:
    """The warning that stands first on the card, or None."""
    if not terms.mode.private:
        return "NO PRIVACY: dp off"
    if terms.noise is Noise.SEEDED:
        return "NOT FOR RELEASE: seeded noise"
    if terms.about.get("profile") == TRIAL:
        return "TRIAL: of a server that is only tried out"
    return "SIMULATED: masks off" if terms.cohort is not None and not terms.cohort.masks else None


def adversary(terms: RunTerms) -> str:
    """The adversary that the guarantee holds against."""
    if not terms.mode.private or terms.noise is Noise.SEEDED:
        return "none"
    if terms.mode.alone:
        return "anyone, the server and all other devices included: sees what each device sent, knows every other user"
    whom = "anyone, the server included" if _masked(terms) else "anyone but the server"
    return f"{whom}: sees every release, knows every other user"


def collusion_threshold(terms: RunTerms) -> int | None:
    """How many of the surviving devices may collude with the server; None where there is no guarantee against it."""
    if terms.mode.alone and terms.noise is Noise.SECURE:
        return terms.facts.n_users - 1  # all but the one that is protected
    return terms.cohort.c_max if terms.cohort is not None and _masked(terms) else None


def mechanism(terms: RunTerms) -> str:
    """The noise mechanism, and who adds the noise."""
    if not terms.mode.private:
        return "none"
    noise = "discrete Gaussian on the integer grid, exact sampler"
    if terms.mode.alone:
        return f"{noise}, all of it by each device"
    if terms.cohort is None:
        return noise
    parts = terms.cohort.subcohorts
    return f"{noise}, a share from each device" + (f", in {parts} sub-cohorts with all of it each" if parts > 1 else "")


def _masked(terms: RunTerms) -> bool:
    return terms.cohort is not None and terms.cohort.masks and terms.noise is Noise.SECURE


def _server(terms: RunTerms) -> str:
    """What the guarantee means against the server."""
    if terms.mode.alone:
        return LOCAL
    if terms.cohort is None:
        return CENTRAL
    words = MASKED if terms.cohort.masks else UNMASKED
    words = words.format(corrupt=terms.cohort.c_max, shares=terms.cohort.noise_shares)
    number = terms.cohort.subcohorts
    return words + (SUBCOHORTS.format(number=number) if number > 1 else "")


def _up(epsilon: float) -> str:
    """Epsilon rounded up at three decimals: the text never states less than was spent."""
    exact = Fraction(epsilon)
    return f"{math.ceil(exact * 1000) / 1000:g}" if epsilon < 999 else f"{math.ceil(exact)}"

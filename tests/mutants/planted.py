"""Mutants that somebody who hadn't seen the list planted: subtle ones, where a check stands or what it counts."""

from __future__ import annotations

from mutants.mutant import rows

rows(
    __name__,
    """
pairs of dense users summed twice | sizes
bug: with many dense users, one with exactly a sixteenth of the rows is in the sum twice
seen: the same bound written twice, once with and once without its edge
@ palate_common.mechanism.pairs:PairSteps.add_to
- dense = counts * DENSE_SHARE > self.n_rows
+ dense = counts * DENSE_SHARE >= self.n_rows
- np.repeat(~dense, counts)
+ np.repeat(counts * DENSE_SHARE <= self.n_rows if dense.any() else ~dense, counts)

a word of 32 bits for 2^32 | common/test_wire.py
bug: a node's sum goes in 32 bits up to 2^32 steps, and wraps from 2^31
seen: the range of a word without sign in the place of one with it
@ palate_common.rounds.wire:dtype_for
- 2**31
+ 2**32

the slack of shares for one coordinate | ledgers
bug: what shares of noise differ from whole noise is accounted for once, not for each coordinate
seen: a factor lost when a sum is written anew
@ palate_sim.accounting:account
- Fraction(shares_slack(sigma=e.sigma, shares=e.shares)) * e.dimension
+ Fraction(shares_slack(sigma=e.sigma, shares=e.shares))

two installations by a root | simulations/test_card_claims.py
bug: a card says of who has two installations what two independent people would have
seen: composition of variances, where one person has both
@ palate_sim.card.guarantee:guarantee
- server=_server(terms),
- two=_up(epsilon_of(mu=2 * mu
+ server=_server(terms),
+ two=_up(epsilon_of(mu=2**0.5 * mu

a device reserves delta for the least attempts | ledgers
bug: a device keeps a part of delta for 1024 graphs, however many rounds it may take part in
seen: a constant for what is counted
@ palate_client.service:Service.noise_delta
- reserved_delta(self.participations)
+ reserved_delta(0)

consent looked at before a vector only | devices
bug: who revokes while their vector is computed is in the sum
seen: a check at the door
@ palate_client.rounds.participation:Masked.answer
- self._check()  # a vector takes a while

corrupt devices by the smallest cohort | ledgers
bug: a device takes a plan that counts on a tenth of the fewest devices being corrupt, not of the most
seen: two bounds of one number mixed up
@ palate_core.device.admission:check_floors
- min_corrupt_share * plan.cohort.n_max
+ min_corrupt_share * plan.cohort.n_min

signatures of drawn members unread | masks
bug: shares are opened for signatures of far members that nobody has verified
seen: the neighbours' are verified a few lines before
@ palate_core.device.attempt:MaskedDevice._unmask
- far = verify((signatures.keys() & sampled) - near.members, signatures)
+ far = checks.Verified(members=frozenset((signatures.keys() & sampled) - near.members))

a cut interval of devices forgets | simulations/test_device_totals.py
bug: where an interval of simulated devices is cut, its second part takes an old attempt again
seen: a new row with its default
@ palate_sim.engines.ledger.device_totals:DeviceTotals._cut
- np.insert(last, at, last[at - 1])
+ np.insert(last, at, -1)

sampled attempts reserve nothing | common/test_history.py
bug: a population makes any number of attempts with sampled steps, though delta is kept for 1024
seen: a rule for masked attempts that another kind came under later
@ palate_server.ledger.history:reserves
- inclusion=entry.facts.get("inclusion", 1)
+ inclusion=1

an odd error refuses a survey | client/test_answers.py
bug: an error that nobody thought of is a refusal, which tells something of the user's data
seen: a linter's advice not to catch all
@ palate_client.rounds.survey_answers:OwnAnswers._answers
- except Exception as error:
+ except (ValueError, KeyError) as error:

a coin a user | random words
bug: all events of a user are sampled together, so that a step is charged for less than it shows
seen: users are what is sampled elsewhere
@ palate_common.rounds.event_steps:sample_events
- return histories.entries(np.asarray(source.words(histories.nnz) < threshold, np.bool_))
+ taking = np.asarray(source.words(histories.n_users) < threshold, np.bool_)
+ return histories.entries(np.repeat(taking, histories.counts()))

an uncharged run outlives a restoration | common/test_restored.py
bug: a run that was open and uncharged in a backup goes on, and its limit forgets the charges that were lost
seen: nothing of it seems lost
@ palate_server.ledger.history:History.record
- run.closed = True  # its
+ run.closed = run.closed or bool(run.latest)  # its

a cohort below its minimum in the clear | ledgers
bug: without masks a sum of fewer devices than were counted on is released, with too little noise
seen: the floor of a device in the place of the plan's
@ palate_server.rounds.noise:noised
- users < plan.least
+ users < plan.cohort_floor

a node's word for its norm | counting
bug: a sum without noise is taken, however long it is
seen: a check on who sends, which devices of another make don't have
@ palate_common.rounds.wire:decode
- if float(np.square
+ if False and float(np.square

answers to other attempts summed | counting
bug: what a node answered to an earlier plan is in this one's sum
seen: a reply that is late
@ palate_server.rounds.aggregation:_check_attempt
- for name, value in expected.items():
+ for name, value in ():

limits that nobody meets | ledgers
bug: simulated devices take part, whatever they have spent
seen: a limit that is only shown
@ palate_sim.engines.ledger.device_totals:DeviceTotals.affords
- return within
+ return within | True

attempts answered twice | ledgers
bug: simulated devices answer an attempt again, with other noise
seen: an answer that is made for whoever asks
@ palate_sim.engines.ledger.device_totals:DeviceTotals.reached
- return last is not None and
+ return False and

another ledger for the one that is known | ledgers
bug: a device compares a plan's ledger with nothing that it has seen
seen: a first contact each time
@ palate_core.device.ledger:SeenStates.seen_checkpoint
- return self.seen(population)[0]
+ return None
""",
)

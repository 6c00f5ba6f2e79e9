"""The sandbox: a made population that lives with Palate on a fast clock, for `palate sandbox`.

catalogue, habits -> Population -> what is shown, what is taken, who comes back
                     |-- Person: some people, with the real device SDK
                     |-- Crowd: the others, hosted in the same rounds
Operator: a server folder, its ledger, rounds, models and surveys -> World -> page, report
"""

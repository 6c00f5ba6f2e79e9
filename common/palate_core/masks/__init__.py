"""Masks: secure aggregation, as device and server share it. It maps bytes to bytes and knows no transport.

The protocol is SecAgg+ (Bell et al., Secure Single-Server Aggregation with (Poly)Logarithmic Overhead, CCS 2020) with
a server that may lie. In path order:

    directory   who is invited, by which identities
    agreement   keys agreed between two devices, and sealed shares (HAZMAT)
    graph       which members are neighbours
    graph_terms how many neighbours and shares, and their failure bounds
    ring_cohort the graph and the thresholds of one cohort
    shamir      secrets split among the neighbours
    boxes       shares sealed for a neighbour, which can be opened to anybody if one of the two lies
    masking     the masks that cancel in the sum (HAZMAT)
    packing     residues as bits on the wire
    messages    the records, as strict bytes
    transcript  what is signed, hashed and derived from
    attempt_terms  what both sides derive from the plan before the first message
"""

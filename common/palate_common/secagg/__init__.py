"""Secure aggregation: what device and server share of it. Bytes in, bytes out; no transport is known here.

The protocol is SecAgg+ (Bell et al., Secure Single-Server Aggregation with (Poly)Logarithmic Overhead, CCS 2020) with
a server that may lie. In path order:

    directory   who may take part, pinned by the device
    agreement   keys agreed between two devices, and sealed shares (HAZMAT)
    graph       who is whose neighbour
    terms       how many neighbours, how many shares, and what that can bear
    shamir      secrets split among the neighbours
    masking     the masks that cancel in the sum (HAZMAT)
    packing     residues as bits on the wire
"""

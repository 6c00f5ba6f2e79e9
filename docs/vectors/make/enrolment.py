"""enrolment.json: a request, and what its identity signs; and a request to leave."""

from __future__ import annotations

from typing import Any

from palate_common.enrolment import ENROL_TAG, LEAVE_TAG, Enrolled, LeaveAnswer, make_leave, make_request

from .key import SECRET, test_key


def enrolment() -> dict[str, Any]:
    """A request, and what its identity signs; and a request to leave."""
    node_key = (
        "-----BEGIN PUBLIC KEY-----\n"
        "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqofKIr6LBTeOscce8yCtdG4dO2KLp5uY\n"
        "WfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3NhfeSpYmLG9dnpi/kpLcKfj0Hb0omhR8\n"
        "6doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f\n"
        "-----END PUBLIC KEY-----\n"
    )  # the base point of P-384: a public key whose secret is 1
    request = make_request("A" * 43, node_key, test_key())
    leaving = make_leave("readers", 7, test_key())
    return {
        "private_key_hex": SECRET.hex(),
        "tag": ENROL_TAG,
        "signed": request.signed_payload.decode(),
        "request": request.to_bytes().decode(),
        "answer": Enrolled(device=7, population="readers", node=2**63 + 5).to_bytes().decode(),
        "leave": {
            "tag": LEAVE_TAG,
            "signed": leaving.signed_payload.decode(),
            "request": leaving.to_bytes().decode(),
            "answer": LeaveAnswer(device=7, population="readers").to_bytes().decode(),
        },
    }

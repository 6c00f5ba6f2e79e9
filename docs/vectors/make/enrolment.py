"""enrolment.json: a request, and what its identity signs; and a request to leave."""

from __future__ import annotations

from typing import Any

from palate_common.enrolment import ENROL_TAG, LEAVE_TAG, Enrolled, LeaveAnswer, make_leave, make_request

from .key import SECRET, test_key


def enrolment() -> dict[str, Any]:
    """A request, and what its identity signs; and a request to leave."""
    request = make_request("A" * 43, test_key())
    leaving = make_leave("readers", 7, test_key())
    return {
        "private_key_hex": SECRET.hex(),
        "tag": ENROL_TAG,
        "signed": request.signed_payload.decode(),
        "request": request.to_bytes().decode(),
        "answer": Enrolled(device=7, population="readers").to_bytes().decode(),
        "leave": {
            "tag": LEAVE_TAG,
            "signed": leaving.signed_payload.decode(),
            "request": leaving.to_bytes().decode(),
            "answer": LeaveAnswer(device=7, population="readers").to_bytes().decode(),
        },
    }

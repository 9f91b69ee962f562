"""Hooks of schemathesis: each request comes from another address, so that the limit of failures is no obstacle."""

import itertools

import schemathesis

NUMBERS = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    number = next(NUMBERS)
    address = f"2001:db8:{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}::1"
    case.headers = {**(case.headers or {}), "X-Forwarded-For": address}

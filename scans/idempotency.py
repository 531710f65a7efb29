"""The same request twice, because its answer was lost on the way, does its work once and has one answer."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import cast

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from rest_framework.exceptions import ValidationError

from scans.exceptions import ScanRefused
from scans.models import IdempotencyKey

REMEMBERED = timedelta(days=1)
LONGEST = 255


def once(*, user, key: str, asked: object, do: Callable[[], dict]) -> dict:
    """
    What ``do`` answers, or has answered when ``user`` named this key before. A request that fails is not remembered.

    Raises ``ScanRefused`` when the key was used for something else, ``ValidationError`` when it is no visible ASCII.
    """
    if not (key and key.isascii() and key.isprintable() and " " not in key and len(key) <= LONGEST):
        raise ValidationError({"Idempotency-Key": [f"Use 1 to {LONGEST} visible ASCII characters."]})
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    IdempotencyKey.objects.filter(created_at__lt=Now() - REMEMBERED).delete()
    with transaction.atomic():
        try:
            with transaction.atomic():  # of two at once the second waits here for the first's commit
                row = IdempotencyKey.objects.create(created_by_id=user.pk, key=key, digest=digest)
        except IntegrityError:
            row = IdempotencyKey.objects.get(created_by=user.pk, key=key)
            if row.digest != digest:
                raise ScanRefused("idempotency_key_reused", "This key was used for another request.") from None
            return cast(dict, row.answer)
        answer = do()
        IdempotencyKey.objects.filter(pk=row.pk).update(answer=answer)
    return answer

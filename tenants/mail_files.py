"""Mails as files that this user alone reads: what is used until a mail server is configured."""

import os
import time
import uuid
from pathlib import Path

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend


class FileBackend(BaseEmailBackend):
    """``BULKHEAD_HOME/mail/<time>-<random>.eml``, one for each mail."""

    def send_messages(self, email_messages):
        directory = Path(settings.BULKHEAD_HOME) / "mail"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            path = directory / f"{time.time_ns()}-{uuid.uuid4().hex}.eml"
            draft = path.with_suffix(".draft")
            with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(message.message().as_bytes())
            draft.rename(path)
        return len(email_messages)

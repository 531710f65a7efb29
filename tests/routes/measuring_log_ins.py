"""The requests of tests/routes/log_in_timing.py, to an installation with a disabled user and a suspended tenant."""

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.utils import timezone

from tenants.accounts.models import MailLink, Tries
from tenants.accounts.tries import PER_ACCOUNT
from tenants.context import control_plane, login_context
from tests.installation import PASSWORD
from tests.routes.asking import ask, canonical
from tests.routes.log_in_timing import DELAY, DELAYED, Attempt
from tests.routes.measuring import in_rounds
from tests.tenants.states import set_state

TOO_MANY = 429
PLANES = (lambda: login_context("acme"), lambda: login_context("globex"), control_plane)


class Measuring:
    def __init__(self, world):
        with login_context("acme"):
            user = get_user_model().objects.create_user("diana", PASSWORD, role="owner")
            user.is_active = False
            user.save(update_fields=["is_active"])
        set_state("globex", "suspended")
        self.client = world.client("anonymous")
        self.client.defaults["HTTP_HOST"] = "localhost"

    def take(self, door: str, attempts: dict[str, Attempt], status: int, rounds: int, order, clock, fastest_of: int):
        """Nanoseconds of each attempt, and of the usual one with the delay. Raises if they are not answered alike."""
        forget_tries()
        if status == TOO_MANY:
            self._use_up(door, attempts)
        self.require_alike(door, attempts, status)

        def once(attempt: Attempt, delay: int = 0) -> int:
            if status != TOO_MANY:
                forget_tries()
            began = clock()
            self.ask(door, attempt)
            until = clock() + delay
            while delay and clock() < until:
                pass
            return clock() - began

        first = next(iter(attempts.values()))
        usual = min(once(first) for _ in range(fastest_of))
        ways = {name: (attempt,) for name, attempt in attempts.items()}
        ways[DELAYED] = (first, int(usual * DELAY))
        return in_rounds(rounds, ways, once, order, fastest_of)

    def ask(self, door: str, attempt: Attempt):
        self.client.cookies.clear()
        if door == "api":
            return ask(self.client, "POST", "/api/v1/token/", attempt._asdict() | {"tenant": attempt.slug})
        if door == "reset":
            return ask(self.client, "POST", f"/t/{attempt.slug}/password/reset/", {"username": attempt.username})
        form = {"username": attempt.username, "password": attempt.password}
        return ask(self.client, "POST", f"/t/{attempt.slug}/login/", form)

    def require_alike(self, door: str, attempts: dict[str, Attempt], status: int) -> None:
        answers = {}
        for name, each in attempts.items():
            answered, headers, cookies, text = canonical(self.ask(door, each), each.slug, each.username)
            headers.pop("Content-Length")  # of a page with a longer slug
            waits = headers.pop("Retry-After", None) is not None  # for so many seconds, and they go by
            answers[name] = (answered, headers, waits, cookies, text)
            assert answered == status, f"{name} is answered with {answered}"
        usual = next(iter(answers))
        other = [name for name, answer in answers.items() if answer != answers[usual]]
        assert not other, f"{other} are not answered as {usual}: {[answers[name] for name in [*other, usual]]}"

    def _use_up(self, door: str, attempts: dict[str, Attempt]) -> None:
        for attempt in attempts.values():
            for _ in range(PER_ACCOUNT):
                self.ask(door, attempt)
        for plane in PLANES:
            with plane():
                Tries.objects.filter(failures__gte=PER_ACCOUNT).update(allowed_at=timezone.now() + timedelta(hours=6))


def forget_tries() -> None:
    for plane in PLANES:
        with plane():
            Tries.objects.all().delete()
            MailLink.objects.filter(purpose="reset").delete()

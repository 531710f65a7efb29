from tenants.accounts.sending import run_sender, sweep
from tenants.management.loops import LoopCommand


class Command(LoopCommand):
    help = "Send the mails that are waiting: invitations and links for a new password. Any number may run."
    example = "send_mail --once"
    sweep = staticmethod(sweep)
    run = staticmethod(run_sender)

"""A Redis of a test's own, with the accounts of `config/redis/users.acl` and one for the test itself."""

import subprocess

from redis import Redis as Client
from redis import RedisError

from config.env import PROJECT
from tenants.embedded import Redis

FILE = (PROJECT / "config/redis/users.acl").read_text()
USERS = {line.split()[1]: line for line in FILE.splitlines() if not line.startswith("user default ")}
PASSWORD = "of-this-test-alone"
WITH_PASSWORDS = FILE.replace(" on ", f" on >{PASSWORD} ")


def granted(user):
    """The commands, as ``COMMAND`` names them."""
    return {word[1:] for word in USERS[user].split() if word.startswith("+")}


class RedisWithAccounts(Redis):
    """``program`` is another server than the one that the product would start."""

    def __init__(self, directory, program=None, accounts=WITH_PASSWORDS):
        super().__init__(directory)
        self._program = program
        self._accounts = accounts

    def _find_program(self):
        return self._program or super()._find_program()

    def _prepare(self):
        accounts = self.directory / "users.acl"
        accounts.write_text(f"{self._accounts}user admin on >{PASSWORD} allchannels ~* +@all\n")
        options = [*super()._prepare(), "--aclfile", str(accounts)]
        if " v=6." not in subprocess.run([self._find_program(), "--version"], capture_output=True, text=True).stdout:
            # Refused to everybody otherwise, whatever their account may.
            options += ["--enable-debug-command", "yes", "--enable-module-command", "yes"]
        return options

    def _answers(self):
        try:
            return self.client("admin").ping()
        except (RedisError, OSError):
            return False

    def url_of(self, user):
        return f"{self.url}&username={user}&password={PASSWORD}"

    def client(self, user):
        return Client.from_url(self.url_of(user), protocol=2)  # whose answers come one for each command

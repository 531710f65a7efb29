"""
``python -m tests.faults.shortened dispatch``: manage.py with the one interval that is no setting, shortened as leases
and sweeps are here.
"""

import os
import sys

import django
from django.core.management import execute_from_command_line

FACTOR = 15  # leases of 2 s instead of 30, lost jobs sent again after 2 s instead of 40, rounds of 20 s instead of 300

if __name__ == "__main__":
    django.setup()

    from scans import leases

    leases.REDISPATCH_SECONDS //= int(os.environ.get("FAULTS_FACTOR", FACTOR))
    execute_from_command_line(["manage.py", *sys.argv[1:]])

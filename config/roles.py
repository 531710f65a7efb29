"""
Who may do what: for each resource of a plane the actions, and for each action the roles. API, workspace and console ask
this table, docs/reference/roles.md is held against it, and what does not stand here is refused, reading included.
"""

OWNER, MANAGER, TESTER, READER, AUDITOR = "owner", "manager", "tester", "reader", "auditor"
SUPPORT, SUPPORT_FULL = "support", "support-full"  # an operator, while an owner's grant to read or to work stands

ALL = (OWNER, MANAGER, TESTER, READER, AUDITOR)  # members: what support may is said by name
SUPPORTING = (SUPPORT, SUPPORT_FULL)
AT_WORK = (OWNER, MANAGER, TESTER)
IN_CHARGE = (OWNER, MANAGER)

Table = dict[str, dict[str, tuple[str, ...]]]

NOBODYS: Table = {  # in either plane: the machinery's own
    "accounts.externalidentity": {},
    "accounts.login": {},
    "accounts.recoverycode": {},
    "accounts.secondfactor": {},
    "accounts.maillink": {},
    "accounts.passkey": {},
    "accounts.tries": {},
    "admin.logentry": {},
    "audit.audithead": {},
    "auth.group": {},
    "auth.permission": {},
    "contenttypes.contenttype": {},
    "sessions.session": {},
}

MEMBERS: Table = {
    **NOBODYS,
    # Accounts are disabled, not deleted: what somebody did goes on naming them.
    "accounts.user": {"view": (*IN_CHARGE, AUDITOR), "add": (OWNER,), "change": (OWNER,)},
    "accounts.signinpolicy": {"change": (OWNER,)},
    "accounts.identityprovider": {"change": (OWNER,)},
    # Their own; an owner's view is of everybody's.
    "accounts.apikey": {"view": ALL, "add": ALL, "delete": ALL},
    "accounts.supportaccess": {"view": (*IN_CHARGE, AUDITOR), "grant": (OWNER,)},
    "audit.auditevent": {"view": (OWNER, AUDITOR)},
    "scans.target": {"view": (*ALL, *SUPPORTING), "add": (*AT_WORK, SUPPORT_FULL), "change": (*AT_WORK, SUPPORT_FULL)},
    # To state that testing is allowed, and to withdraw it, is theirs who answer for it. What was stated stands.
    "scans.authorization": {"view": (*AT_WORK, AUDITOR, SUPPORT_FULL), "add": IN_CHARGE, "revoke": IN_CHARGE},
    # Not changed: past scans ran as their profile says.
    "scans.scanprofile": {"view": (*ALL, *SUPPORTING), "add": (*AT_WORK, SUPPORT_FULL)},
    "scans.scan": {
        "view": (*ALL, *SUPPORTING),
        "add": (*AT_WORK, SUPPORT_FULL),
        "steer": (*AT_WORK, SUPPORT_FULL),  # cancel, pause, resume, retry
    },
    "scans.scanevent": {"view": (*ALL, *SUPPORTING)},
    "scans.idempotencykey": {},
    "scans.scanrun": {"view": (*ALL, *SUPPORTING)},
    "scans.finding": {"view": (*ALL, *SUPPORTING)},
    "scans.occurrence": {"view": (*ALL, *SUPPORTING)},
    "scans.scancounter": {},
    "scans.taskqueue": {},
}

OPERATOR = ("operator",)  # whoever has an account in control: the role that their row says is no matter there

OPERATORS: Table = {
    **NOBODYS,
    "tenants.tenant": {"view": OPERATOR},
    "tenants.databaseserver": {"view": OPERATOR},
    "tenants.lifecycleevent": {"view": OPERATOR},
    "accounts.user": {"view": OPERATOR, "add": OPERATOR, "change": OPERATOR},
    "accounts.apikey": {},
    "accounts.signinpolicy": {"change": OPERATOR},
    "accounts.supportaccess": {"add": OPERATOR},  # to ask a tenant for it
    "audit.auditevent": {"view": OPERATOR},
    "tenants.auditanchor": {},
    "tenants.halt": {},
    "accounts.identityprovider": {},
    "tenants.tenantcredential": {},
    "tenants.tenantkey": {},
    "tenants.tenantload": {"view": OPERATOR},
    "tenants.dispatcher": {},
    "tenants.registryrevision": {},
}

RIGHTS = {"tenant": MEMBERS, "control": OPERATORS}

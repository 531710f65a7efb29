"""Who may do what. A permission is Django's ``app.action_model``."""

ACCOUNT_APPS = ("accounts.", "auth.", "admin.")
ACTIONS_OF_TESTERS = ("view", "add", "change")


def is_allowed(role: str, permission: str) -> bool:
    """An owner may do everything in their plane; a tester works with everything but accounts, and deletes nothing."""
    if role == "owner":
        return True
    app_and_action = permission.partition("_")[0]
    return (
        role == "tester"
        and not permission.startswith(ACCOUNT_APPS)
        and app_and_action.partition(".")[2] in ACTIONS_OF_TESTERS
    )

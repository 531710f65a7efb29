"""Cache keys that belong to a plane."""

from tenants.planes import require_bound


def cache_key(key: object, key_prefix: str, version: int) -> str:
    """
    For ``KEY_FUNCTION`` of every cache: the same key in two tenants is two entries. ``clear()`` still empties the cache
    for everybody.

    Raises ``NoTenantError`` where nothing is bound.
    """
    return f"{require_bound().alias}:{key_prefix}:{version}:{key}"

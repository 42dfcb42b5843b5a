"""Who may change packs."""

from __future__ import annotations

import pytest

from packregistry.auth import ANONYMOUS, Access, Principal
from packregistry.config import Address, Auth, Config, Http
from packregistry.errors import DeniedError
from packregistry.web.guard import check_access

ADMIN = Principal("admin", "basic")
READER = Principal("reader", "basic")
EVERYWHERE, HERE = Address("", 5000), Address("127.0.0.1", 5000)


@pytest.mark.parametrize(
    ("auth", "address", "principal", "allowed"),
    [
        pytest.param(Auth("htpasswd"), EVERYWHERE, ADMIN, True, id="admin"),
        pytest.param(Auth("htpasswd"), HERE, READER, False, id="another user, even from here"),
        pytest.param(Auth("htpasswd", admins=("reader",)), EVERYWHERE, READER, True, id="named as admin"),
        pytest.param(Auth("htpasswd", admins=()), EVERYWHERE, ADMIN, False, id="no admins"),
        pytest.param(Auth("none"), EVERYWHERE, ANONYMOUS, True, id="open in as many words"),
        pytest.param(Auth("unset"), EVERYWHERE, ANONYMOUS, False, id="nobody said so"),
        pytest.param(Auth("unset"), HERE, ANONYMOUS, True, id="only this machine"),
    ],
)
@pytest.mark.parametrize("access", [Access.WRITE, Access.ADMIN])
def test_changing_packs(auth: Auth, address: Address, principal: Principal, allowed: bool, access: Access) -> None:
    config = Config(http=Http(addr=address), auth=auth)
    if allowed:
        check_access(config, access, principal)
    else:
        with pytest.raises(DeniedError):
            check_access(config, access, principal)
    check_access(config, Access.READ, principal)
    check_access(config, Access.PUBLIC, principal)

"""Every method that is served has a row in the table of permissions, and roles are held to it."""

import pytest

from spillover.cloud.rpc.standard_services import HEALTH, REFLECTION_V1, REFLECTION_V1ALPHA, described
from spillover.cloud.security.roles import DEFAULT_ROLES, METRICS_PAGE, NEEDED, Permission, Roles
from spillover.common.errors import ForbiddenError
from spillover.common.security.tokens import Caller
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import spillover_pb2 as pb

OURS = (pb.DESCRIPTOR, oip_pb.DESCRIPTOR)
POOL = described(OURS)
SERVICES = [service.full_name for file in OURS for service in file.services_by_name.values()]
SERVED = {
    f"/{name}/{method.name}"
    for name in (*SERVICES, HEALTH, REFLECTION_V1, REFLECTION_V1ALPHA)
    for method in POOL.FindServiceByName(name).methods
}


def test_the_table_knows_every_method():
    """Each method of each service has its permission, and no row is of a method that is gone."""
    assert set(NEEDED) == SERVED | {METRICS_PAGE}


def test_only_probes_are_open():
    """What anybody may call is health, live and ready."""
    open_methods = {
        method.rpartition("/")[2] for method, needed in NEEDED.items() if needed is Permission.OPEN
    }
    assert open_methods == {"Check", "Watch", "List", "ServerLive", "ServerReady"}


@pytest.mark.parametrize("method", sorted(NEEDED))
@pytest.mark.parametrize("role", [*DEFAULT_ROLES, "nobody"])
def test_a_role_may_what_it_was_given(method, role):
    """A device infers, an operator does everything, who has no role gets no further than the probes."""
    roles, caller = Roles(DEFAULT_ROLES), Caller("somebody", role)
    allowed = NEEDED[method] is Permission.OPEN or NEEDED[method] in DEFAULT_ROLES.get(role, ())
    if allowed:
        roles.check(caller, method)
    else:
        with pytest.raises(ForbiddenError, match="somebody"):
            roles.check(caller, method)


def test_what_is_not_in_the_table_is_nobodys():
    """A method without a row is refused to an operator too."""
    with pytest.raises(ForbiddenError):
        Roles(DEFAULT_ROLES).check(Caller("alice", "operator"), "/spillover.v1.Spillover/New")

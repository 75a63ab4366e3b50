"""The table of the permission that each method needs, and the check of a caller's role against it."""

import enum
from collections.abc import Mapping
from types import MappingProxyType

from spillover.common.errors import ForbiddenError
from spillover.common.security.tokens import Caller

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Valid names of devices, people and roles."""
ANONYMOUS = "anonymous"
"""The role of callers without credentials, where those are admitted."""
PROXY = "proxy"
"""The role of a proxy in front, which may call nothing itself and pass on its callers' certificates."""


class Permission(enum.Enum):
    """A permission that a role may have."""

    OPEN = "open"
    """Allowed to everybody; never configured."""
    INFER = "infer"
    """Run models, and read their metadata."""
    CONTROL = "control"
    """Load and unload models."""
    METRICS = "metrics"
    """Read statistics and metrics."""


METRICS_PAGE = "/metrics"
OIP = "/inference.GRPCInferenceService/"
OWN = "/spillover.v1.Spillover/"

NEEDED: Mapping[str, Permission] = MappingProxyType(
    {
        # Probes of orchestrators and load balancers carry no identity. They learn only that the server is up.
        "/grpc.health.v1.Health/Check": Permission.OPEN,
        "/grpc.health.v1.Health/Watch": Permission.OPEN,
        "/grpc.health.v1.Health/List": Permission.OPEN,
        OIP + "ServerLive": Permission.OPEN,
        OIP + "ServerReady": Permission.OPEN,
        OWN + "Infer": Permission.INFER,
        OWN + "ListModels": Permission.INFER,
        OIP + "ModelReady": Permission.INFER,
        OIP + "ServerMetadata": Permission.INFER,
        OIP + "ModelMetadata": Permission.INFER,
        OIP + "ModelConfig": Permission.INFER,
        OIP + "ModelInfer": Permission.INFER,
        OIP + "ModelStreamInfer": Permission.INFER,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Permission.INFER,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Permission.INFER,
        OIP + "ModelStatistics": Permission.METRICS,
        METRICS_PAGE: Permission.METRICS,
        OIP + "RepositoryIndex": Permission.CONTROL,
        OIP + "RepositoryModelLoad": Permission.CONTROL,
        OIP + "RepositoryModelUnload": Permission.CONTROL,
    }
)
"""Method -> permission. A method that is missing here is refused."""


DEFAULT_ROLES: Mapping[str, tuple[Permission, ...]] = MappingProxyType(
    {
        "device": (Permission.INFER,),
        "operator": (Permission.INFER, Permission.CONTROL, Permission.METRICS),
        ANONYMOUS: (Permission.INFER,),
    }
)


class Roles:
    """The permissions of each role, as configured."""

    def __init__(self, allowed: Mapping[str, tuple[Permission, ...]]) -> None:
        self._allowed = {role: frozenset(permissions) for role, permissions in allowed.items()}

    def check(self, caller: Caller, method: str) -> None:
        """Raise ForbiddenError unless `caller` may call `method`, such as `/spillover.v1.Spillover/Infer`."""
        needed = NEEDED.get(method)
        if needed is Permission.OPEN or needed in self._allowed.get(caller.role, ()):
            return
        who = f"{caller.name!r} ({caller.role})" if caller.name else "a caller who proves no identity"
        what = needed.value if needed else "a method that no role may call"
        raise ForbiddenError(f"{who} may not call {method}: it needs {what}")

"""Network interfaces, and which one gloo and NCCL take."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from fm.doctor.finding import Finding

_SIOCGIFADDR = 0x8915
"""From `linux/sockios.h`."""
PASSED_OVER = ("lo", "docker", "virbr", "veth")
"""Begin the names of interfaces that NCCL takes last or not at all."""


def addresses() -> dict[str, str]:
    """Return the IPv4 address of each interface that has one."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(handle, _SIOCGIFADDR, request)
            except OSError:
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def interfaces(own: Mapping[str, str] | None = None, host: str | None = None) -> Iterator[Finding]:
    """Say what there is and what is taken.

    Args:
        own: interface to address; this machine's when None.
        host: address of this machine's name; looked up when None, empty when it has none.
    """
    found = addresses() if own is None else own
    listed = ", ".join(f"{name} {address}{_speed(name)}" for name, address in found.items())
    yield Finding("interfaces", listed or "none with an IPv4 address")
    if host is None:
        try:
            host = socket.gethostbyname(socket.gethostname())
        except OSError:
            host = ""
    yield _gloo(found, host)
    yield _nccl(found)


def _gloo(found: Mapping[str, str], host: str) -> Finding:
    """Gloo takes the interface of `GLOO_SOCKET_IFNAME`, else the address of the machine's name."""
    told = os.environ.get("GLOO_SOCKET_IFNAME")
    if told is not None:
        return _told("gloo", "GLOO_SOCKET_IFNAME", told, found)
    taken = next((name for name, address in found.items() if address == host), None)
    if taken is None or host.startswith("127."):
        where = f"{taken} ({host})" if taken else "loopback"
        return Finding(
            "gloo",
            f"takes {where}, where the machine's name leads",
            "note",
            f"several nodes do not find each other; export GLOO_SOCKET_IFNAME={_first(found)}",
        )
    return Finding("gloo", f"takes {taken} ({host}), where the machine's name leads")


def _nccl(found: Mapping[str, str]) -> Finding:
    """NCCL takes InfiniBand, then `NCCL_SOCKET_IFNAME`, then the first that is no bridge."""
    told = os.environ.get("NCCL_SOCKET_IFNAME")
    adapters = Path("/sys/class/infiniband")
    cards = sorted(p.name for p in adapters.iterdir()) if adapters.is_dir() else []
    fast = f"InfiniBand or RoCE through {', '.join(cards)}; " if cards else ""
    if told is not None and told[:1] not in "^=" and "," not in told:
        line = _told("NCCL", "NCCL_SOCKET_IFNAME", told, found)
        return Finding(line.what, fast + line.found, line.level, line.do)
    how = f"NCCL_SOCKET_IFNAME={told}" if told else "the first that is no bridge or loopback"
    return Finding("NCCL", f"takes {fast}sockets on {_first(found)} ({how})")


def _told(who: str, variable: str, told: str, found: Mapping[str, str]) -> Finding:
    if not any(name.startswith(told) for name in found):
        return Finding(
            who,
            f"{variable}={told}, which has no address here",
            "stop",
            f"unset it, or name one of {', '.join(found) or 'none'}",
        )
    return Finding(who, f"takes {told} ({variable})")


def _first(found: Mapping[str, str]) -> str:
    outside = [name for name in found if not name.startswith(PASSED_OVER)]
    return next(iter(outside or found), "an interface with an address")


def _speed(name: str) -> str:
    try:
        speed = int(Path(f"/sys/class/net/{name}/speed").read_text())
    except (OSError, ValueError):
        return ""
    return f" {speed / 1000:g} Gb/s" if speed > 0 else ""

"""Who the command is inside: a name, a home, and the number that programs see. Outside it is always the sandbox's own user."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.types import StockadeError

_LAST = 2**32 - 2  # 2^32 - 1 is (uid_t)-1: nobody at all


@dataclass(frozen=True, slots=True)
class Person:
    """identity: the number inside when it is not the one outside, which takes a user namespace."""

    name: str = "agent"
    home: str = "/home/agent"
    identity: int | None = None

    @classmethod
    def named(cls, user: str | None) -> Person:
        """What process.user says: nothing, a name (the number stays the sandbox's own), or a number. Raises StockadeError."""
        if user is None:
            return cls()
        if user in ("root", "0"):
            return cls("root", "/root", 0)
        if not user.isdigit():
            return cls(user, f"/home/{user}")
        if int(user) > _LAST:
            raise StockadeError(f"process.user: {user} is no user", hint=f"a name, or a number up to {_LAST}", code="bad_user")
        return cls(identity=int(user))

    def environment(self) -> dict[str, str]:
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def files(self, outside: int) -> dict[str, bytes]:
        """/etc/passwd and /etc/group. outside: the sandbox's own uid and gid."""
        number = outside if self.identity is None else self.identity
        people = {"root": ("0", "/root", "/bin/sh"), self.name: (str(number), self.home, "/bin/sh"), "nobody": ("65534", "/", "/bin/false")}
        groups = {"root": "0", self.name: str(number), "nogroup": "65534"}
        return {
            "/etc/passwd": "".join(f"{name}:x:{n}:{n}:{name}:{home}:{shell}\n" for name, (n, home, shell) in people.items()).encode(),
            "/etc/group": "".join(f"{name}:x:{n}:\n" for name, n in groups.items()).encode(),
        }

"""Runs inside and outside alike: ways to a server that take no other program, through sockets and the kernel."""

from sockets import addresses, calls, connected, datagrams, options, transports, unix

__all__ = ["addresses", "calls", "connected", "datagrams", "options", "transports", "unix"]

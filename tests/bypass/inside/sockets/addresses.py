"""connect, in every spelling of an address."""

import errno
import socket
import struct

from driver import attack

from sockets.ways import stream


@attack("connect-v4")
def _(facts, token):
    return stream(facts["v4"], facts["port"], token)


@attack("connect-v6")
def _(facts, token):
    return stream(facts["v6"], facts["port"], token, socket.AF_INET6)


@attack("v4-mapped")
def _(facts, token):
    return stream("::ffff:" + facts["v4"], facts["port"], token, socket.AF_INET6)


@attack("v4-compatible")
def _(facts, token):
    return stream("::" + facts["v4"], facts["port"], token, socket.AF_INET6)


def embedded(facts, form):
    high, low = struct.unpack("!HH", socket.inet_aton(facts["v4"]))
    return form.format(high=high, low=low)


@attack("six-to-four")
def _(facts, token):
    return stream(embedded(facts, "2002:{high:x}:{low:x}::1"), facts["port"], token, socket.AF_INET6)


@attack("nat64")
def _(facts, token):
    return stream(embedded(facts, "64:ff9b::{high:x}:{low:x}"), facts["port"], token, socket.AF_INET6)


@attack("teredo")
def _(facts, token):
    return stream(embedded(facts, "2001:0:{high:x}:{low:x}::1"), facts["port"], token, socket.AF_INET6)


@attack("zone-id")
def _(facts, token):
    said = []
    for index, _ in socket.if_nameindex():
        try:
            said.append(stream((facts["link_local"], facts["port"], 0, index), 0, token, socket.AF_INET6))
        except OSError as error:
            said.append(errno.errorcode[error.errno] if error.errno else "silence")
    return "out" if "out" in said else said[-1]

"""Checksums of the addresses and keys of cryptocurrencies. Each takes one as written, and says whether it can be one.

Sources: base58check as BIP 32 has it for keys, BIP 173 and 350 (bech32), EIP-55.
"""

from __future__ import annotations

import hashlib

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58check(text: str) -> bool:
    """Bitcoin, Litecoin, Dogecoin … addresses, WIF keys and extended keys: the last four bytes are those of a double SHA-256."""
    value = 0
    for character in text:
        place = _BASE58.find(character)
        if place < 0:
            return False
        value = value * 58 + place
    zeros = len(text) - len(text.lstrip("1"))
    data = b"\0" * zeros + value.to_bytes((value.bit_length() + 7) // 8, "big")
    return len(data) > 20 and hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]


def bech32(text: str) -> bool:
    """BIP 173 and 350."""
    text = text.lower()
    prefix, _, data = text.rpartition("1")
    values = ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".find(character) for character in data]
    if not prefix or len(values) < 7 or -1 in values:
        return False
    check = 1
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return check in (1, 0x2BC830A3)


def ethereum(text: str) -> bool:
    """EIP-55 has its checksum in the case of the letters; it needs Keccak, which hashlib lacks. All of one case carries none."""
    body = text[2:]
    if body in (body.lower(), body.upper()):
        return len(set(body)) > 6
    sponge = keccak_256(body.lower().encode()).hex()
    return all(c.isdigit() or (c.isupper() == (int(sponge[i], 16) >= 8)) for i, c in enumerate(body))


def keccak_256(data: bytes) -> bytes:
    """Keccak as submitted, before SHA-3's padding. data: less than 136 bytes, which is one block (an address is 40), or ValueError."""
    if len(data) >= 136:
        raise ValueError("one block only")
    block = bytearray(200)
    block[: len(data)] = data
    block[len(data)] ^= 1
    block[135] ^= 0x80
    lanes = [[int.from_bytes(block[8 * (x + 5 * y) : 8 * (x + 5 * y) + 8], "little") for y in range(5)] for x in range(5)]
    rotation = 1
    for _ in range(24):
        columns = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in range(5)]
        for x in range(5):
            mixed = columns[(x + 4) % 5] ^ _left(columns[(x + 1) % 5], 1)
            for y in range(5):
                lanes[x][y] ^= mixed
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], _left(current, (step + 1) * (step + 2) // 2 % 64)
        for y in range(5):
            row = [lanes[x][y] for x in range(5)]
            for x in range(5):
                lanes[x][y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5])
        for bit in range(7):
            rotation = (rotation << 1 ^ (rotation >> 7) * 0x71) % 256
            if rotation & 2:
                lanes[0][0] ^= 1 << ((1 << bit) - 1)
    return b"".join(lanes[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


def _left(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & 0xFFFFFFFFFFFFFFFF if by else value

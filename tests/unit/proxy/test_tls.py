"""TLS towards the sandbox: the name in the ClientHello, the certificates shown, old clients."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from stockade.types import Action, Reason

from .conftest import World, read_answer, refusal

GET = "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"


def test_another_sni_is_refused_in_the_handshake_and_recorded(proxied):
    async def scenario(world: World) -> None:
        number, seen = await world.echo("a.example")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await world.ask(number, GET, sni="b.example")
        record = await world.spine.wait_for(Reason.SNI_MISMATCH)
        assert record.action is Action.CONNECT and record.detail["error"] == "the ClientHello names b.example"
        assert seen.connections == 0

    proxied(scenario)


def test_no_sni_is_refused_for_a_name(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", world.ports[0], local_addr=(f"127.0.0.{number}", 0), ssl=context, server_hostname="")
        await world.spine.wait_for(Reason.SNI_MISMATCH)

    proxied(scenario)


def test_the_case_of_the_sni_does_not_matter_nor_that_of_host(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        status, _ = await world.ask(
            number, "GET / HTTP/1.1\r\nHost: A.Example.:" + str(world.port_of(number)) + "\r\n\r\n", sni="A.EXAMPLE"
        )
        assert status == 200

    proxied(scenario)


@pytest.mark.parametrize("ciphers", ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "AES128-GCM-SHA256"])
def test_a_tls_1_2_client_is_served_with_the_kind_of_certificate_it_can_use(proxied, ciphers):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example", use_rsa="RSA" in ciphers)
        context = world.trust
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        reader, writer = await world.dial(number, context=context)
        assert writer.get_extra_info("cipher")[0] == ciphers
        status, _ = await world.exchange(number, reader, writer, GET)
        assert status == 200

    proxied(scenario)


def test_the_certificate_shown_is_for_the_name_and_signed_by_the_sandbox_only(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        _, writer = await world.dial(number)
        certificate = writer.get_extra_info("peercert")
        assert certificate["subjectAltName"] == (("DNS", "a.example"),)
        with pytest.raises(ssl.SSLCertVerificationError):
            await world.dial(number, context=ssl.create_default_context(cafile=str(world.pki.bundle)))

    proxied(scenario)


def test_an_address_literal_is_served_without_sni(proxied):
    async def scenario(world: World) -> None:
        seen_number, _ = await world.plain("unused.example")
        number = world.name("198.51.100.7", world.port_of(seen_number))
        context = ssl.create_default_context(cadata=world.authority.certificate_pem.decode())
        reader, writer = await world.dial(number, context=context)  # verified: the leaf is for the address
        status, body = await world.exchange(number, reader, writer, "GET / HTTP/1.1\r\nHost: 198.51.100.8\r\n\r\n")
        assert status == 403 and refusal(body)["reason"] == "host_mismatch"

    proxied(scenario)


def test_without_origin_or_name_the_connection_is_closed_and_recorded(proxied):
    async def scenario(world: World) -> None:
        number = world.name(None, 443)
        for source, reason in (("127.0.0.1", Reason.NO_ORIGIN), (f"127.0.0.{number}", Reason.UNKNOWN_SYNTHETIC)):
            reader, _ = await asyncio.open_connection("127.0.0.1", world.ports[0], local_addr=(source, 0))
            assert await reader.read() == b""
            await world.spine.wait_for(reason)

    proxied(scenario)


def test_a_fragmented_client_hello_is_understood(proxied):
    async def scenario(world: World) -> None:
        number, _ = await world.echo("a.example")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = world.trust.wrap_bio(incoming, outgoing, server_hostname="a.example")
        reader, writer = await world.dial(number, tls=False)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        cut = b"".join(hello[:3] + (1).to_bytes(2) + hello[at : at + 1] for at in range(5, len(hello)))  # a record for each octet
        writer.write(cut)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        writer.write(outgoing.read())
        tls.write(f"GET / HTTP/1.1\r\nHost: a.example:{world.port_of(number)}\r\n\r\n".encode())
        writer.write(outgoing.read())
        plain = asyncio.StreamReader()
        answer = asyncio.ensure_future(read_answer(plain))
        while not answer.done():
            incoming.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    plain.feed_data(tls.read(65536))
            await asyncio.sleep(0)
        assert (await answer)[0] == 200

    proxied(scenario)

"""Tokens, viewers, origins: who may ask what, over both ways, and settings that are refused at start."""

import time

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from config.serving import ServingConfig
from engine.errors import ConfigError
from streams.server.auth import Authenticator, check_serving
from streams.server.error_names import ProtocolError

SECRET = "a secret of more than thirty-two bytes"
TOKEN_MODE = {"auth": "token", "token_key": SECRET}


def pem_pair(curve):
    key = ec.generate_private_key(curve)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return private, public


BAD_TOKENS = {
    "empty": lambda t: "",
    "garbage": lambda t: "a.b.c",
    "not ascii": lambda t: "ü.ö.ä",
    "endless": lambda t: "a" * 100_000,
    "expired": lambda t: t(expires_s=-60),
    "no exp": lambda t: t(expires_s=None),
    "exp of another type": lambda t: t(expires_s=None, exp="soon"),
    "exp without end": lambda t: t(expires_s=None, exp=float("inf")),
    "not yet": lambda t: t(nbf=time.time() + 600),
    "wrong key": lambda t: t(key="another secret of more than 32 bytes"),
    "wrong algorithm": lambda t: t(key=SECRET * 2, algorithm="HS512"),
    "same key, other algorithm": lambda t: t(key=SECRET.ljust(48), algorithm="HS384"),
    "alg none": lambda t: jwt.encode({"sub": "42", "exp": time.time() + 60}, None, algorithm="none"),
    "no sub": lambda t: t(None),
    "sub is no id": lambda t: t("0"),
    "sub of another type": lambda t: jwt.encode({"sub": None, "exp": time.time() + 60}, SECRET),
    "tampered": lambda t: t("41")[:-8] + t("42")[-8:],
}


@pytest.mark.parametrize("make", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
async def test_a_bad_token_is_unauthorized_by_every_way(start, make):
    site = await start(**TOKEN_MODE, auth_timeout_s=1.0)
    bad = make(site.token)
    for by_header in (True, False):
        if by_header and not bad.isascii():
            continue
        headers = site.bearer(bad[:8000]) if by_header else {}
        async with site.socket("", hello=False, headers=headers) as socket:
            if not by_header:
                await socket.send(type="auth", token=bad[:60_000])
            assert await socket.receive() == {
                "type": "error", "error": "unauthorized", "message": "a valid token is needed",
            }  # fmt: skip
            assert await socket.close_code() == 4401
    if bad.isascii():
        for status, body in (
            await site.get("/v1/users/42/feed", headers=site.bearer(bad[:8000])),
            await site.post(b"", headers=site.bearer(bad[:8000])),
        ):
            assert (status, body) == (401, {"error": "unauthorized", "message": "a valid token is needed"})
    assert not site.service.requests


async def test_good_tokens_by_header_and_by_first_frame(start):
    site = await start(**TOKEN_MODE)
    good = site.token("42")
    async with site.socket("", headers=site.bearer(good)) as socket:
        assert (await socket.ask(type="feed"))["viewer_id"] == "42"
    async with site.socket("?viewer=42", hello=False) as socket:
        await socket.send(type="auth", token=good)
        hello = await socket.receive()
        assert (hello["type"], hello["viewer_id"]) == ("hello", "42")
    status, feed = await site.get("/v1/users/42/feed", headers=site.bearer(good))
    assert (status, feed["viewer_id"]) == (200, "42")


async def test_no_token_in_time_and_other_first_frames(start):
    site = await start(**TOKEN_MODE, auth_timeout_s=0.1)
    async with site.socket("", hello=False) as socket:
        assert (await socket.receive())["error"] == "unauthorized"
        assert await socket.close_code() == 4401
    for frame in ({"type": "feed"}, {"type": "auth"}, {"token": site.token()}):
        async with site.socket("", hello=False) as socket:
            assert (await socket.ask(**frame))["error"] == "unauthorized"
            assert await socket.close_code() == 4401
    async with site.socket("", hello=False) as socket:
        await socket.ws.send_bytes(b"{}")
        assert (await socket.receive())["error"] == "unauthorized"
    async with site.socket("", hello=False):
        pass  # a client that leaves before it says who it is
    await site.until(lambda: site.metric("connections") == 0)
    status, body = await site.get("/v1/users/42/feed")
    assert (status, body["error"]) == (401, "unauthorized")


async def test_a_token_for_another_viewer(start):
    site = await start(**TOKEN_MODE)
    for first in ({}, {"headers": site.bearer(site.token("42"))}):
        async with site.socket("?viewer=43", hello=False, **first) as socket:
            if not first:
                await socket.send(type="auth", token=site.token("42"))
            assert (await socket.receive())["error"] == "wrong_viewer"
            assert await socket.close_code() == 4403
    status, body = await site.get("/v1/users/43/feed", headers=site.bearer(site.token("42")))
    assert (status, body["error"]) == (403, "wrong_viewer")


async def test_a_connection_ends_when_its_token_does(start):
    site = await start(**TOKEN_MODE)
    # PyJWT allows five seconds of clock skew: this token is still taken, and over at once.
    async with site.socket("", headers=site.bearer(site.token(expires_s=-1))) as socket:
        assert (await socket.receive())["error"] == "unauthorized"
        assert await socket.close_code() == 4401


async def test_an_audience_that_is_configured_must_be_named(start):
    site = await start(**TOKEN_MODE, token_audience="feeds")
    for audience, status in (("feeds", 200), (["x", "feeds"], 200), ("other", 401), (None, 401)):
        made = site.token(aud=audience)
        assert (await site.get("/v1/users/42/feed", headers=site.bearer(made)))[0] == status
    site = await start(**TOKEN_MODE)
    assert (await site.get("/v1/users/42/feed", headers=site.bearer(site.token(aud="any"))))[0] == 200


async def test_es256(start):
    private, public = pem_pair(ec.SECP256R1())
    other, _ = pem_pair(ec.SECP256R1())
    site = await start(auth="token", token_key=public, token_algorithm="ES256")
    for key, status in ((private, 200), (other, 401)):
        made = site.token(key=key, algorithm="ES256")
        assert (await site.get("/v1/users/42/feed", headers=site.bearer(made)))[0] == status
    # The public key is no HMAC secret (PyJWT itself refuses to sign with it, so the token is made by hand).
    import base64
    import hashlib
    import hmac

    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    claims = base64.urlsafe_b64encode(b'{"sub":"42","exp":9999999999}').rstrip(b"=")
    mac = hmac.new(public.encode(), head + b"." + claims, hashlib.sha256).digest()
    forged = (head + b"." + claims + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()
    assert (await site.get("/v1/users/42/feed", headers=site.bearer(forged)))[0] == 401


@pytest.mark.parametrize("scheme", ["Basic", "bearer", "Bearer ", ""])
async def test_the_scheme_is_bearer(start, scheme):
    site = await start(**TOKEN_MODE)
    status, _ = await site.get("/v1/users/42/feed", headers={"Authorization": f"{scheme} {site.token()}"})
    assert status == (200 if scheme.strip().lower() == "bearer" else 401)


async def test_what_tokens_may_publish(start):
    site = await start(**TOKEN_MODE)
    own = b'{"v":1,"id":1,"type":"favorite","user_id":"42","tweet_id":5,"timestamp_ms":1760000000000}'
    other = own.replace(b'"42"', b"43")
    tweet = b'{"v":1,"id":2,"type":"create","tweet_id":7,"author_id":"42","timestamp_ms":1760000000000,"text":"t"}'
    body = b"\n".join((own, other, tweet))
    _, answer = await site.post(body, headers=site.bearer(site.token("42")))
    assert [r["status"] for r in answer["results"]] == ["accepted", "rejected", "rejected"]
    assert {r.get("error") for r in answer["results"][1:]} == {"wrong_viewer"}
    for scope, sub in (("publish", None), ("read publish", "42")):
        _, answer = await site.post(body, headers=site.bearer(site.token(sub, scope=scope)))
        assert answer["accepted"] == 3
    _, answer = await site.post(body, headers=site.bearer(site.token("42", scope="unpublished")))
    assert answer["accepted"] == 1
    # A token without a viewer reads nobody's feed.
    publisher = site.bearer(site.token(None, scope="publish"))
    assert (await site.get("/v1/users/42/feed", headers=publisher))[0] == 403
    async with site.socket("", hello=False, headers=publisher) as socket:
        assert (await socket.receive())["error"] == "wrong_viewer"


async def test_token_mode_lists_no_viewers_and_shows_its_configuration_to_tokens_only(start):
    site = await start(**TOKEN_MODE)
    assert (await site.get("/v1/users", headers=site.bearer(site.token())))[0] == 404
    assert (await site.get("/config"))[0] == 401
    assert (await site.get("/config", headers=site.bearer(site.token())))[0] == 200


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "own"}, True),
        ({"Origin": "https://app.example"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://app.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1"}, False),
        ({"Host": "evil.example"}, False),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": "localhost:9", "Origin": "http://localhost:9"}, True),
        ({"Host": "[::1]:9"}, True),
        ({"Host": "["}, False),
        ({"Host": "app.example"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
    ],
)
async def test_open_mode_keeps_other_sites_out(start, headers, allowed):
    site = await start(origins=("https://app.example",))
    headers = {k: site.url if v == "own" else v for k, v in headers.items()}
    for status, body in (
        await site.get("/v1/users/42/feed", headers=headers),
        await site.get("/v1/users", headers=headers),
        await site.get("/config", headers=headers),
        await site.post(b"", headers=headers),
    ):
        assert status == (200 if allowed else 403)
        assert allowed or body["error"] == "forbidden_origin"
    if allowed:
        async with site.socket(headers=headers) as socket:
            assert (await socket.ask(type="feed"))["type"] == "feed"
    else:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with site.socket(headers=headers):
                pass
        assert refused.value.status == 403


async def test_token_mode_enforces_configured_origins_only(start):
    site = await start(**TOKEN_MODE)
    headers = {**site.bearer(site.token()), "Origin": "https://any.example", "Host": "feeds.example"}
    assert (await site.get("/v1/users/42/feed", headers=headers))[0] == 200
    site = await start(**TOKEN_MODE, origins=("https://app.example",))
    assert (await site.get("/v1/users/42/feed", headers=headers))[0] == 403
    assert (await site.get("/v1/users/42/feed", headers={**headers, "Origin": "https://app.example"}))[0] == 200
    assert (await site.get("/v1/users/42/feed", headers={**headers, "Origin": "https://feeds.example"}))[0] == 200


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"host": "0.0.0.0"}, "serving.auth"),
        ({"host": ""}, "serving.auth"),
        ({"host": "192.168.1.5"}, "serving.auth"),
        ({"host": "example.org"}, "serving.auth"),
        ({"host": "::"}, "serving.auth"),
        ({"auth": "token"}, "serving.token_key"),
        ({"auth": "token", "token_key": "short"}, "serving.token_key"),
        ({"auth": "token", "token_key": SECRET, "token_algorithm": "ES256"}, "serving.token_key"),
        ({"auth": "token", "token_key": pem_pair(ec.SECP384R1())[1], "token_algorithm": "ES256"}, "serving.token_key"),
        ({"auth": "token", "token_key": pem_pair(ec.SECP256R1())[0], "token_algorithm": "ES256"}, "serving.token_key"),
        ({"origins": ("example.org",)}, "serving.origins"),
        ({"origins": ("https://example.org/",)}, "serving.origins"),
    ],
)
def test_unsafe_settings_are_refused(settings, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        check_serving(ServingConfig(**settings))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_open_mode_on_loopback_is_fine(host):
    check_serving(ServingConfig(host=host))


def test_token_mode_may_listen_anywhere():
    check_serving(ServingConfig(host="0.0.0.0", **TOKEN_MODE))


def test_a_claim_of_deep_nesting_is_only_a_bad_token():
    made = jwt.encode({"sub": "42", "exp": time.time() + 9}, SECRET) + "." + "A" * 4000
    with pytest.raises(ProtocolError):
        Authenticator(ServingConfig(**TOKEN_MODE)).verify(made)

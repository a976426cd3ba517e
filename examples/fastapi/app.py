"""An application behind portcullis. Who calls is what the gateway's token says: `caller()` verifies it, and nothing else is believed.

A header like X-User-ID would be as good as the network between gateway and application. The token that portcullis mints is signed, says
for which application it is, and lives for a minute: whoever reaches this application without the gateway has none."""

import json
import os
import sys
import threading
import time
from typing import Annotated, NamedTuple

import jwt
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse

ISSUER = os.environ.get("PORTCULLIS_ISSUER", "https://edge.example.com")
KEYS_AT = os.environ.get("PORTCULLIS_JWKS", f"{ISSUER}/.well-known/jwks.json")
AUDIENCE = os.environ.get("PORTCULLIS_AUDIENCE", "shop")
COOLDOWN = float(os.environ.get("PORTCULLIS_COOLDOWN", "10"))
HEADER = "x-portcullis-identity"
CLAIMS = ["iss", "aud", "sub", "exp", "iat", "jti", "principal", "route"]


class Caller(NamedTuple):
    principal: str  # issuer/subject, as `caller` of the audit line
    subject: str
    roles: list[str]
    tenant: str | None


class Problem(Exception):
    def __init__(self, status: int, title: str, detail: str, why: str):
        self.status, self.title, self.detail, self.why = status, title, detail, why


def not_from_the_gateway(why: str) -> Problem:
    return Problem(401, "Unauthorized", "This application takes requests from its gateway only.", why)


class Keys:
    """The gateway's public keys: fetched every five minutes, and for a key that is not known, at most once a COOLDOWN."""

    def __init__(self) -> None:
        self.lock, self.known, self.asked = threading.Lock(), {}, float("-inf")

    def find(self, kid: str) -> jwt.PyJWK:
        with self.lock:
            age = time.monotonic() - self.asked
            if age >= 300 or (kid not in self.known and age >= COOLDOWN):
                self.asked = time.monotonic()
                try:
                    fetched = jwt.PyJWKClient(KEYS_AT, cache_jwk_set=False, timeout=2).get_signing_keys()
                    self.known = {key.key_id: key for key in fetched if key.algorithm_name in ("EdDSA", "ES256")}
                except jwt.PyJWTError as error:  # those that are known go on
                    log(problem=f"the gateway's keys cannot be fetched: {type(error).__name__}")
            if not self.known:
                raise Problem(503, "Service Unavailable", "Who calls cannot be told right now.", "there are no keys")
            if kid not in self.known:
                raise not_from_the_gateway("a key that is not the gateway's")
            return self.known[kid]


KEYS = Keys()


def caller(request: Request) -> Caller:
    """Who calls; 401 where the request did not come through the gateway."""
    tokens = request.headers.getlist(HEADER)
    if len(tokens) != 1:
        raise not_from_the_gateway("no token")
    try:
        header = jwt.get_unverified_header(tokens[0])
        key = KEYS.find(str(header.get("kid")))
        # The algorithm is the key's: what the token says of it must agree.
        claims = jwt.decode(tokens[0], key, algorithms=[key.algorithm_name], issuer=ISSUER, audience=AUDIENCE, leeway=5, options={"require": CLAIMS})
    except jwt.PyJWTError as error:
        raise not_from_the_gateway(type(error).__name__) from None
    if header.get("typ") != "at+jwt":
        raise not_from_the_gateway("not such a token")
    # The same words as in portcullis' audit line: `request`, `caller`, `route` find one in the other.
    log(request=request.headers.get("x-request-id"), caller=claims["principal"], route=claims["route"], token=claims["jti"])
    return Caller(claims["principal"], claims["sub"], claims.get("roles", []), claims.get("tenant"))


def log(**line: object) -> None:
    print(json.dumps({name: value[:256] if isinstance(value, str) else value for name, value in line.items()}), file=sys.stdout, flush=True)


# No page of its own: what is not below `api` is open to whoever reaches it.
app = FastAPI(openapi_url=None)
# On the router and not on each route: a route that is added later is behind it.
api = APIRouter(dependencies=[Depends(caller)])


@app.exception_handler(Problem)
def denied(request: Request, problem: Problem) -> JSONResponse:
    log(request=request.headers.get("x-request-id"), caller=None, denied=problem.why)
    body = {"type": "about:blank", "title": problem.title, "status": problem.status, "detail": problem.detail}
    headers = {"Cache-Control": "no-store"} | ({"WWW-Authenticate": "Bearer"} if problem.status == 401 else {})
    return JSONResponse(body, problem.status, headers, media_type="application/problem+json")


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@api.get("/me")
def me(who: Annotated[Caller, Depends(caller)]) -> dict:
    return who._asdict()


@api.get("/orders/{order}")
def order(order: int, who: Annotated[Caller, Depends(caller)]) -> dict:
    return {"order": order, "for": who.principal, "tenant": who.tenant}


app.include_router(api)

"""The development issuer's endpoints, at the paths that Zitadel uses. A user signs in by choosing a persona."""

from __future__ import annotations

import time
from collections.abc import Mapping

from flask import Flask, Response, jsonify, redirect, render_template, request
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as AnyResponse

from kataven.dev.issuer.authorization import (
    RefusedRequest,
    UntrustedRequest,
    is_local_url,
    require_supported,
    require_trusted,
    with_query,
)
from kataven.dev.issuer.grants import CODE_LIFETIME_SECONDS, Grant, GrantStore, InvalidGrant
from kataven.dev.issuer.keys import Keyring
from kataven.dev.issuer.tokens import AUDIENCE, CLIENT_ID, LIFETIME_SECONDS, access_claims, encode, id_claims
from kataven.dev.loopback import HOSTS
from kataven.dev.personas import PERSONAS
from kataven.identity.errors import ExpiredCredential, MissingCredential, Refused
from kataven.identity.grants import DEFAULT_ROLE_CLAIMS
from kataven.identity.jwt import JwtVerifier
from kataven.identity.jwt_use import AccessTokens, IdTokens, JwtUse

AUTHORIZE = "/oauth/v2/authorize"
TOKEN = "/oauth/v2/token"  # noqa: S105 a path
KEYS = "/oauth/v2/keys"
USERINFO = "/oidc/v1/userinfo"
END_SESSION = "/oidc/v1/end_session"
OFFLINE = "offline_access"
SCOPES = ("openid", "profile", "email", OFFLINE)
ZITADEL_SCOPES = "urn:zitadel:iam:"
"""The prefix of Zitadel's own scopes."""
USERINFO_CLAIMS = ("sub", "name", "preferred_username", "email", DEFAULT_ROLE_CLAIMS[0])


def create_issuer(issuer_url: str, keyring: Keyring) -> Flask:
    """The issuer as a WSGI application. It accepts only loopback host names, to prevent DNS rebinding by web pages."""
    app = Flask(__name__)
    app.config.update(TRUSTED_HOSTS=[*HOSTS], MAX_CONTENT_LENGTH=64 * 1024)
    issuer = _Issuer(issuer_url, keyring)
    app.add_url_rule("/.well-known/openid-configuration", view_func=issuer.discovery)
    app.add_url_rule(KEYS, view_func=issuer.keys)
    app.add_url_rule(AUTHORIZE, view_func=issuer.authorize, methods=["GET", "POST"])
    app.add_url_rule(TOKEN, view_func=issuer.token, methods=["POST"])
    app.add_url_rule(USERINFO, view_func=issuer.userinfo, methods=["GET", "POST"])
    app.add_url_rule(END_SESSION, view_func=issuer.end_session, methods=["GET", "POST"])
    app.after_request(_add_security_headers)
    return app


def _add_security_headers(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


class _Issuer:
    def __init__(self, issuer_url: str, keyring: Keyring) -> None:
        self._url = issuer_url
        self._keyring = keyring
        self._codes = GrantStore(CODE_LIFETIME_SECONDS)
        self._refresh_tokens = GrantStore()

    def discovery(self) -> Response:
        """OpenID Connect Discovery, section 3."""
        return jsonify(
            issuer=self._url,
            authorization_endpoint=self._url + AUTHORIZE,
            token_endpoint=self._url + TOKEN,
            jwks_uri=self._url + KEYS,
            userinfo_endpoint=self._url + USERINFO,
            end_session_endpoint=self._url + END_SESSION,
            response_types_supported=["code"],
            response_modes_supported=["query"],
            grant_types_supported=["authorization_code", "refresh_token"],
            subject_types_supported=["public"],
            scopes_supported=SCOPES,
            id_token_signing_alg_values_supported=["ES256", "RS256"],
            token_endpoint_auth_methods_supported=["none"],
            code_challenge_methods_supported=["S256"],
            authorization_response_iss_parameter_supported=True,
        )

    def keys(self) -> Response:
        return jsonify(self._keyring.public_jwks())

    def authorize(self) -> AnyResponse:
        """Show the personas. After the user has chosen one, redirect the browser with a code for it."""
        parameters = request.form if request.method == "POST" else request.args
        try:
            require_trusted(parameters)
            require_supported(parameters)
        except UntrustedRequest as error:
            return _page("message.html", 400, title="This sign-in request is invalid", message=str(error))
        except RefusedRequest as error:
            return self._redirect_back(parameters, error=error.error, error_description=str(error))
        if request.method == "GET" or "person" not in parameters:
            return _page(
                "sign_in.html", 200, title="Sign in", personas=PERSONAS, parameters=parameters, action=AUTHORIZE
            )
        person = next((one for one in PERSONAS if one.subject == parameters["person"]), None)
        if person is None:
            raise BadRequest("Set person to the subject of a persona.")
        scope = _supported_scopes(parameters["scope"])
        uri, nonce, challenge = (parameters.get(name) for name in ("redirect_uri", "nonce", "code_challenge"))
        code = self._codes.issue(Grant(person, uri or "", scope, nonce, challenge or ""))
        return self._redirect_back(parameters, code=code)

    def _redirect_back(self, parameters: Mapping[str, str], **added: str) -> AnyResponse:
        target = with_query(parameters["redirect_uri"], {**added, "iss": self._url}, parameters.get("state"))
        return redirect(target, 303)

    def token(self) -> AnyResponse:
        """Exchange a code or a refresh token (RFC 6749, sections 4.1.3 and 6; RFC 7636, section 4.5)."""
        form = request.form
        if form.get("client_id") != CLIENT_ID or "client_secret" in form or request.authorization is not None:
            return _token_error(
                "invalid_client", f"Send client_id {CLIENT_ID} and no secret: the client is public.", 401
            )
        try:
            if form.get("grant_type") == "authorization_code":
                grant = self._codes.redeem(form.get("code", ""))
                grant.check(form.get("redirect_uri", ""), form.get("code_verifier", ""))
            elif form.get("grant_type") == "refresh_token":
                grant = self._refresh_tokens.redeem(form.get("refresh_token", ""))
            else:
                return _token_error("unsupported_grant_type", "Set grant_type to authorization_code or refresh_token.")
        except InvalidGrant as error:
            return _token_error("invalid_grant", str(error))
        if form["grant_type"] == "refresh_token" and not set(form.get("scope", "").split()) <= set(grant.scope.split()):
            return _token_error("invalid_scope", "Request only scopes that were granted at sign-in.")
        return jsonify(self._tokens(grant))

    def _tokens(self, grant: Grant) -> dict[str, object]:
        key = self._keyring.signing_key()
        access_token = encode(key, access_claims(self._url, grant.person))
        tokens: dict[str, object] = {
            "access_token": access_token,
            "id_token": encode(key, id_claims(self._url, grant.person, nonce=grant.nonce, access_token=access_token)),
            "token_type": "Bearer",
            "expires_in": LIFETIME_SECONDS,
            "scope": grant.scope,
        }
        if OFFLINE in grant.scope.split(" "):
            tokens["refresh_token"] = self._refresh_tokens.issue(grant)
        return tokens

    def userinfo(self) -> AnyResponse:
        """OpenID Connect Core, section 5.3."""
        bearer = request.authorization
        try:
            if bearer is None or bearer.type != "bearer" or bearer.token is None:
                raise MissingCredential
            claims = self._verifier(AUDIENCE, AccessTokens()).claims(bearer.token).all
        except Refused as error:
            response = jsonify(error="invalid_token", error_description=str(error))
            response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            response.status_code = 401
            return response
        return jsonify({claim: claims[claim] for claim in USERINFO_CLAIMS})

    def end_session(self) -> AnyResponse:
        """RP-initiated logout 1.0. This issuer has no sign-in sessions, so it only redirects the browser."""
        parameters = request.form if request.method == "POST" else request.args
        hint, target = parameters.get("id_token_hint"), parameters.get("post_logout_redirect_uri")
        if hint is not None and not self._issued(hint):
            raise BadRequest("Set id_token_hint to an ID token of this issuer.")
        if parameters.get("client_id", CLIENT_ID) != CLIENT_ID:
            raise BadRequest(f"Set client_id to {CLIENT_ID}, the only client of this issuer.")
        if target is None or (hint is None and "client_id" not in parameters):
            # Like Zitadel, which ignores post_logout_redirect_uri without a client.
            return _page("message.html", 200, title="Signed out", message="You can close this page.")
        if not is_local_url(target):
            raise BadRequest("Set post_logout_redirect_uri to an http URL on a loopback name.")
        return redirect(with_query(target, {}, parameters.get("state")), 303)

    def _issued(self, id_token: str) -> bool:
        try:
            self._verifier(CLIENT_ID, IdTokens(CLIENT_ID)).claims(id_token)
        except ExpiredCredential:
            return True  # after a long session, the Hub sends an expired ID token
        except Refused:
            return False
        return True

    def _verifier(self, audience: str, use: JwtUse) -> JwtVerifier:
        return JwtVerifier(self._keyring, self._url, audience, time.time, use)


def _supported_scopes(scope: str) -> str:
    """The supported ones of the requested scopes. RFC 6749, section 3.3, allows an issuer to ignore the others."""
    return " ".join(name for name in scope.split() if name in SCOPES or name.startswith(ZITADEL_SCOPES))


def _page(template: str, status: int, **context: object) -> Response:
    return Response(render_template(template, **context), status)


def _token_error(error: str, detail: str, status: int = 400) -> Response:
    """RFC 6749, section 5.2."""
    response = jsonify(error=error, error_description=detail)
    response.status_code = status
    return response

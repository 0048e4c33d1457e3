"""The development issuer's endpoints, at the paths that Zitadel has. Whoever asks may be anybody of the cast."""

from __future__ import annotations

import time

from flask import Flask, Response, jsonify, redirect, render_template, request
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as AnyResponse

from kataven.dev.issuer.authorization import (
    RefusedRequest,
    UntrustedRequest,
    is_local_url,
    read_request,
    with_query,
)
from kataven.dev.issuer.codes import CodeBook, Grant, InvalidGrant, RefreshBook
from kataven.dev.issuer.keys import Keyring
from kataven.dev.issuer.tokens import AUDIENCE, CLIENT_ID, LIFETIME_SECONDS, access_claims, encode, id_claims
from kataven.dev.personas import CAST
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
"""How Zitadel's own scopes begin."""
REFRESH_TOKENS = "kataven.refresh_tokens"
"""Under this name the application's `extensions` hold the refresh tokens that are out."""


def create_issuer(issuer_url: str, keyring: Keyring) -> Flask:
    """The issuer as a WSGI application. It answers under loopback names only, so that no web page can rebind to it."""
    app = Flask(__name__)
    app.config.update(TRUSTED_HOSTS=["127.0.0.1", "localhost"], MAX_CONTENT_LENGTH=64 * 1024)
    issuer = _Issuer(issuer_url, keyring)
    app.extensions[REFRESH_TOKENS] = issuer.refresh_tokens
    app.add_url_rule("/.well-known/openid-configuration", view_func=issuer.discovery)
    app.add_url_rule(KEYS, view_func=issuer.keys)
    app.add_url_rule(AUTHORIZE, view_func=issuer.authorize, methods=["GET", "POST"])
    app.add_url_rule(TOKEN, view_func=issuer.token, methods=["POST"])
    app.add_url_rule(USERINFO, view_func=issuer.userinfo, methods=["GET", "POST"])
    app.add_url_rule(END_SESSION, view_func=issuer.end_session, methods=["GET", "POST"])
    app.after_request(_harden)
    return app


def _harden(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


class _Issuer:
    def __init__(self, issuer_url: str, keyring: Keyring) -> None:
        self._url = issuer_url
        self._keyring = keyring
        self._codes = CodeBook()
        self.refresh_tokens = RefreshBook()

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
        """Show the cast; once somebody is chosen, send the browser back with a code for them."""
        parameters = request.form if request.method == "POST" else request.args
        try:
            wanted = read_request(parameters, self._url)
        except UntrustedRequest as error:
            return _page("message.html", 400, title="This sign-in can't go on", message=str(error))
        except RefusedRequest as error:
            return redirect(error.location, 303)
        if request.method == "GET" or "person" not in parameters:
            return _page("sign_in.html", 200, title="Sign in", cast=CAST, parameters=parameters, action=AUTHORIZE)
        person = next((one for one in CAST if one.subject == parameters["person"]), None)
        if person is None:
            raise BadRequest("Nobody of that name is in the cast.")
        code = self._codes.issue(wanted.grant_to(person, _granted(wanted.scope)))
        return redirect(wanted.location({"code": code, "iss": self._url}), 303)

    def token(self) -> AnyResponse:
        """A code or a refresh token for tokens (RFC 6749, sections 4.1.3 and 6; RFC 7636, section 4.5)."""
        form = request.form
        if form.get("client_id") != CLIENT_ID or "client_secret" in form or request.authorization is not None:
            return _token_error("invalid_client", "The client is public: send its client_id and no secret.", 401)
        try:
            if form.get("grant_type") == "authorization_code":
                grant = self._codes.redeem(
                    form.get("code", ""),
                    client_id=CLIENT_ID,
                    redirect_uri=form.get("redirect_uri", ""),
                    verifier=form.get("code_verifier", ""),
                )
            elif form.get("grant_type") == "refresh_token":
                grant = self.refresh_tokens.redeem(form.get("refresh_token", ""))
                if not set(form.get("scope", "").split()) <= set(grant.scope.split()):
                    return _token_error("invalid_scope", "A refresh asks for no scope that was not granted.")
            else:
                return _token_error(
                    "unsupported_grant_type", "The grant_type here is authorization_code or refresh_token."
                )
        except InvalidGrant as error:
            return _token_error("invalid_grant", str(error))
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
            tokens["refresh_token"] = self.refresh_tokens.issue(grant)
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
        told = ("sub", "name", "preferred_username", "email", DEFAULT_ROLE_CLAIMS[0])
        return jsonify({claim: claims[claim] for claim in told})

    def end_session(self) -> AnyResponse:
        """RP-initiated logout 1.0. Nobody stays signed in here, so all there is to do is to send the browser back."""
        parameters = request.form if request.method == "POST" else request.args
        hint, target = parameters.get("id_token_hint"), parameters.get("post_logout_redirect_uri")
        if hint is not None and not self._is_own(hint):
            raise BadRequest("The id_token_hint is not an ID token of this issuer.")
        if parameters.get("client_id", CLIENT_ID) != CLIENT_ID:
            raise BadRequest(f"The only client here is {CLIENT_ID}.")
        if target is None or (hint is None and "client_id" not in parameters):
            # Zitadel ignores post_logout_redirect_uri without a client, too.
            return _page("message.html", 200, title="Signed out", message="You may close this page.")
        if not is_local_url(target):
            raise BadRequest("A post_logout_redirect_uri here is an http URL on a loopback name.")
        return redirect(with_query(target, {}, parameters.get("state")), 303)

    def _is_own(self, id_token: str) -> bool:
        try:
            self._verifier(CLIENT_ID, IdTokens(CLIENT_ID)).claims(id_token)
        except ExpiredCredential:
            return True  # ours and old: who signs out after a long day shows such a one
        except Refused:
            return False
        return True

    def _verifier(self, audience: str, use: JwtUse) -> JwtVerifier:
        return JwtVerifier(self._keyring, self._url, audience, time.time, use)


def _granted(scope: str) -> str:
    """The supported ones among the requested scopes; RFC 6749, section 3.3, allows to ignore the others."""
    return " ".join(name for name in scope.split() if name in SCOPES or name.startswith(ZITADEL_SCOPES))


def _page(template: str, status: int, **context: object) -> Response:
    return Response(render_template(template, **context), status)


def _token_error(error: str, detail: str, status: int = 400) -> Response:
    """RFC 6749, section 5.2."""
    response = jsonify(error=error, error_description=detail)
    response.status_code = status
    return response

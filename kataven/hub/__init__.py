"""The Hub: server-rendered pages where users sign in and create, view and revoke keys, and the operator console.

session_middleware  every request: session, CSRF check, user, account and role
sign_in             OpenID Connect, from the account name to a session, and signing out
edits               detects concurrent edits, so that a form never overwrites a change that its user did not see
late_forms          restores a form that was submitted after its session ended
sessions            the sessions of browsers, encrypted so that Redis can't read them
pages               one module per page of an account; they call the same functions as the API
console             one module per page of the operator console
"""

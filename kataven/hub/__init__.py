"""Pages for people: where they sign in, mint, see and revoke keys; and the operators' console.

gate       every request: a session, a person, an account, a role
sign_in    OpenID Connect, from the account's name to a session and out again
edits      what was changed since a form was opened is shown, and not overwritten
late_forms a form whose session is over, or another one's, comes back filled in
sessions   what is remembered of a browser, sealed so that Redis can't read it
pages      one module for each place in the menu; they call the same verbs as the API
"""

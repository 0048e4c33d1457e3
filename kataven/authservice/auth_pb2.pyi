from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CredentialKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CREDENTIAL_KIND_UNSPECIFIED: _ClassVar[CredentialKind]
    CREDENTIAL_KIND_API_KEY: _ClassVar[CredentialKind]
    CREDENTIAL_KIND_JWT: _ClassVar[CredentialKind]

class TokenKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_KIND_UNSPECIFIED: _ClassVar[TokenKind]
    TOKEN_KIND_API_KEY: _ClassVar[TokenKind]
    TOKEN_KIND_WIDGET_KEY: _ClassVar[TokenKind]
CREDENTIAL_KIND_UNSPECIFIED: CredentialKind
CREDENTIAL_KIND_API_KEY: CredentialKind
CREDENTIAL_KIND_JWT: CredentialKind
TOKEN_KIND_UNSPECIFIED: TokenKind
TOKEN_KIND_API_KEY: TokenKind
TOKEN_KIND_WIDGET_KEY: TokenKind

class VerifyRequest(_message.Message):
    __slots__ = ("kind", "token", "account", "account_version")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_VERSION_FIELD_NUMBER: _ClassVar[int]
    kind: CredentialKind
    token: str
    account: str
    account_version: bytes
    def __init__(self, kind: _Optional[_Union[CredentialKind, str]] = ..., token: _Optional[str] = ..., account: _Optional[str] = ..., account_version: _Optional[bytes] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("principal", "refusal", "unavailable", "restricted_principal")
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    RESTRICTED_PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    principal: Principal
    refusal: Refusal
    unavailable: Unavailable
    restricted_principal: Principal
    def __init__(self, principal: _Optional[_Union[Principal, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., unavailable: _Optional[_Union[Unavailable, _Mapping]] = ..., restricted_principal: _Optional[_Union[Principal, _Mapping]] = ...) -> None: ...

class Principal(_message.Message):
    __slots__ = ("kind", "account", "id", "name", "role", "expires_at", "limits", "scopes", "allowed_addresses", "denied_addresses", "from_browsers", "completes_rotation", "person")
    class LimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    DENIED_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    FROM_BROWSERS_FIELD_NUMBER: _ClassVar[int]
    COMPLETES_ROTATION_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    kind: CredentialKind
    account: str
    id: str
    name: str
    role: str
    expires_at: float
    limits: _containers.ScalarMap[str, int]
    scopes: Scopes
    allowed_addresses: _containers.RepeatedScalarFieldContainer[str]
    denied_addresses: _containers.RepeatedScalarFieldContainer[str]
    from_browsers: bool
    completes_rotation: str
    person: str
    def __init__(self, kind: _Optional[_Union[CredentialKind, str]] = ..., account: _Optional[str] = ..., id: _Optional[str] = ..., name: _Optional[str] = ..., role: _Optional[str] = ..., expires_at: _Optional[float] = ..., limits: _Optional[_Mapping[str, int]] = ..., scopes: _Optional[_Union[Scopes, _Mapping]] = ..., allowed_addresses: _Optional[_Iterable[str]] = ..., denied_addresses: _Optional[_Iterable[str]] = ..., from_browsers: _Optional[bool] = ..., completes_rotation: _Optional[str] = ..., person: _Optional[str] = ...) -> None: ...

class Scopes(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "detail", "secret_id", "caller")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SECRET_ID_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    code: str
    detail: str
    secret_id: str
    caller: str
    def __init__(self, code: _Optional[str] = ..., detail: _Optional[str] = ..., secret_id: _Optional[str] = ..., caller: _Optional[str] = ...) -> None: ...

class Unavailable(_message.Message):
    __slots__ = ("detail", "retry_after_seconds", "code")
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    detail: str
    retry_after_seconds: int
    code: str
    def __init__(self, detail: _Optional[str] = ..., retry_after_seconds: _Optional[int] = ..., code: _Optional[str] = ...) -> None: ...

class KeyHash(_message.Message):
    __slots__ = ("pepper_id", "digest")
    PEPPER_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    pepper_id: str
    digest: bytes
    def __init__(self, pepper_id: _Optional[str] = ..., digest: _Optional[bytes] = ...) -> None: ...

class IssueRequest(_message.Message):
    __slots__ = ("kind", "account", "seed", "pepper_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PEPPER_ID_FIELD_NUMBER: _ClassVar[int]
    kind: TokenKind
    account: str
    seed: bytes
    pepper_id: str
    def __init__(self, kind: _Optional[_Union[TokenKind, str]] = ..., account: _Optional[str] = ..., seed: _Optional[bytes] = ..., pepper_id: _Optional[str] = ...) -> None: ...

class IssueResponse(_message.Message):
    __slots__ = ("text", "hash", "hint")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    text: str
    hash: KeyHash
    hint: str
    def __init__(self, text: _Optional[str] = ..., hash: _Optional[_Union[KeyHash, _Mapping]] = ..., hint: _Optional[str] = ...) -> None: ...

class CandidatesRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class CandidatesResponse(_message.Message):
    __slots__ = ("candidates",)
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.RepeatedCompositeFieldContainer[KeyHash]
    def __init__(self, candidates: _Optional[_Iterable[_Union[KeyHash, _Mapping]]] = ...) -> None: ...

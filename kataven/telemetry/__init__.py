"""Exports traces with OTLP, if `KATAVEN_TRACES=otlp`.

The package needs the `otel` extra. It is imported only if the setting is on: otherwise no function of the request's
path is wrapped and no OpenTelemetry module is loaded.
"""

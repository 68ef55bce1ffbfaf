"""The bodies of the HTTP API: what the server answers, and what the command line reads.

An absent value is left out, never null. Times are RFC 3339 in UTC, durations say their unit (`_ms`).
Unknown fields of requests are ignored, so that an older server understands a newer client.
"""

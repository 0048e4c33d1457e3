"""The API reference at `/docs`: its page, and the samples that it generates from the OpenAPI document."""

"""The resources of the HTTP API: each file has one noun with its query schema and its OpenAPI operations."""

"""Resources of the HTTP API. Each file contains a resource, its query schema and its OpenAPI operations."""

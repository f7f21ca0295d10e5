"""Resources of the HTTP API: one file for each, with its query schema and its OpenAPI operations."""

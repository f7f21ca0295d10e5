"""OpenAPI document, generated from the routes and the description of each resource."""

"""The OpenAPI document, assembled from the routes and the descriptions beside each resource."""

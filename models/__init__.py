"""Rows of the database as peewee models, one table per file, and the migrations of the schema."""

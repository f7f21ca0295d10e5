"""Peewee models of the database tables, and the migrations of the schema."""

"""Isolated origins: their sessions, tickets and requests."""

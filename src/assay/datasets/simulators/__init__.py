"""Simulators: data whose truth is known because it was made here."""

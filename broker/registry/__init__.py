"""What the web app and operators enter: lessons, teachers, Zoom credentials, accounts by the list.

All of it lies outside the pools' hash tags, so every command below touches one key, and commands are ordered so that a
crash in between leaves something that a repetition puts right.
"""

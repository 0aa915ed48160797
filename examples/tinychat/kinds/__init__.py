"""The kinds of talk tinychat is trained on, one module each."""

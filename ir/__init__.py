"""The intermediate representation: types, operators, graphs, and what they mean."""

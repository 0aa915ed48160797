"""Metal: a step as launches of shaders that are generated for the model, see docs/metal.md."""

"""The commands of the runtime. Each module holds one and imports nothing heavy until it runs."""

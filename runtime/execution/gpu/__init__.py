"""Running steps on a GPU: a plan of launches, replayed over a device."""

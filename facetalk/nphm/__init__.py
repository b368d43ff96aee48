"""Neural parametric head models: networks, official checkpoint formats, bound fields, tracking."""
